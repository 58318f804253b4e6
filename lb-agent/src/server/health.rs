//! `/healthz`, `/livez` and `/canary`.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};

use super::{Site, reply};
use crate::{
    api::Answers,
    health::{Health, HealthAnswer, Moment},
};

/// Serves what kubelets and load balancers probe: kube-proxy's two paths byte for byte, for every method as it does,
/// and the canary.
pub struct HealthSite {
    /// What the answers depend on.
    pub health: Arc<Health>,
    /// Where the canary comes from.
    pub answers: Arc<dyn Answers>,
}

impl Site for HealthSite {
    fn answer(&self, request: &Request<()>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" => kube_proxys(self.health.healthz(Moment::now())),
            "/livez" => kube_proxys(self.health.livez(Moment::now())),
            "/canary" => {
                let canary = self.answers.canary().sorted();
                reply::json(code(canary.ok), &canary)
            }
            _ => reply::page_not_found(),
        }
    }
}

fn kube_proxys(answer: HealthAnswer) -> Response<Full<Bytes>> {
    let headers = [(CONTENT_TYPE, "application/json"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    reply::reply(code(answer.healthy), headers, answer.body)
}

const fn code(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
