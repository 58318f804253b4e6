//! networking.k8s.io/v1 ServiceCIDR.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::{
    Converted, Refusal,
    field::{self, Report},
};
use crate::model::{
    Event, Kind, Object,
    addr::{Cidr, Family},
};

/// Converts a ServiceCIDR (KEP-1880).
pub fn convert(object: &ServiceCIDR) -> Result<Converted, Refusal> {
    let reference = field::reference(Kind::ServiceCidr, &object.metadata)?;
    let report = Report::about(&reference);
    let given = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    if given.is_empty() {
        return Err(report.refuse("spec.cidrs", "is empty"));
    }
    let ranges: Vec<Cidr> = given
        .iter()
        .enumerate()
        .map(|(index, range)| report.cidr(format!("spec.cidrs[{index}]"), range))
        .collect::<Result<_, _>>()?;
    report.one_of_each_family("spec.cidrs", ranges.iter().map(|range| Family::of(&range.address())))?;
    Ok(report.done(Event::Apply(Object::ServiceCidr(reference.name, ranges))))
}
