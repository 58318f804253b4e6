//! The API: docs/api.md states it.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes};
use serde::Serialize;

use super::{Site, reply};
use crate::{
    api::{
        Answers,
        error::{ApiError, Reason},
        query::Query,
        rows,
    },
    model::Name,
};

/// Serves what `lbctl` asks.
pub struct ApiSite(pub Arc<dyn Answers>);

impl Site for ApiSite {
    fn answer(&self, request: &Request<()>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let message = format!("{} is not served here, GET and HEAD are", request.method());
            return reply::error(ApiError::new(Reason::BadMethod, message));
        }
        let uri = request.uri();
        Query::parse(uri.path(), uri.query()).and_then(|query| self.ask(&query)).unwrap_or_else(reply::error)
    }
}

impl ApiSite {
    fn ask(&self, query: &Query) -> Result<Response<Full<Bytes>>, ApiError> {
        Ok(match query {
            Query::Status => {
                let mut status = self.0.status()?;
                status.canary = status.canary.sorted();
                status.maps.sort();
                status.problems.sort();
                ok(&status)
            }
            Query::Canary => ok(&self.0.canary().sorted()),
            Query::Services => ok(&self.services(None)?),
            Query::Service(name) => ok(&self.services(Some(name))?),
            Query::Backends => {
                let mut rows = self.0.backends()?;
                rows::sort_backends(&mut rows);
                ok(&rows)
            }
            Query::Maps => ok(&self.0.maps()?),
            Query::MapsText => reply::text(self.0.maps_text()?),
            Query::Maglev(query) => ok(&self.0.maglev(query)?),
        })
    }

    fn services(&self, only: Option<&Name>) -> Result<Vec<rows::ServiceRow>, ApiError> {
        let mut rows = self.0.services()?;
        rows.retain(|row| only.is_none_or(|only| row.namespace == only.namespace && row.name == only.name));
        rows::sort_services(&mut rows);
        Ok(rows)
    }
}

fn ok(value: &impl Serialize) -> Response<Full<Bytes>> {
    reply::json(StatusCode::OK, value)
}
