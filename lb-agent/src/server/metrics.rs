//! `/metrics`.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE};

use super::{Site, reply};
use crate::{
    api::{Answers, error::ApiError},
    metrics::{self, Metrics},
};

/// Serves Prometheus.
pub struct MetricsSite {
    /// What the agent counts.
    pub metrics: Arc<Metrics>,
    /// What the kernel counts.
    pub answers: Arc<dyn Answers>,
}

impl Site for MetricsSite {
    fn answer(&self, request: &Request<()>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/metrics" => self.text().unwrap_or_else(reply::error),
            _ => reply::page_not_found(),
        }
    }
}

impl MetricsSite {
    fn text(&self) -> Result<Response<Full<Bytes>>, ApiError> {
        let (status, counters) = (self.answers.status()?, self.answers.counters()?);
        Ok(match self.metrics.text(&status, &counters) {
            Ok(text) => reply::reply(StatusCode::OK, [(CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
            Err(error) => reply::internal(&error.to_string()),
        })
    }
}
