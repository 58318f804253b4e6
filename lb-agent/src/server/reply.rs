//! Responses.

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, SERVER, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;

use crate::api::{
    self,
    error::{ApiError, ErrorBody, Reason},
};

/// A body of some type, with the headers given.
pub(super) fn reply<const N: usize>(
    code: StatusCode,
    headers: [(HeaderName, &'static str); N],
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A value as JSON, one line and a line break.
pub(super) fn json(code: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            reply(code, [(CONTENT_TYPE, "application/json"), (SERVER, api::SERVER)], body)
        }
        Err(error) => internal(&format!("the answer cannot be written as JSON: {error}")),
    }
}

/// Text.
pub(super) fn text(body: String) -> Response<Full<Bytes>> {
    reply(StatusCode::OK, [(CONTENT_TYPE, "text/plain; charset=utf-8"), (SERVER, api::SERVER)], body)
}

/// An answer that is no.
pub(super) fn error(error: ApiError) -> Response<Full<Bytes>> {
    let (code, method) = (error.reason.code(), error.reason == Reason::BadMethod);
    let mut response = json(code, &ErrorBody { error });
    if method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// An error of ours.
pub(super) fn internal(message: &str) -> Response<Full<Bytes>> {
    // ErrorBody holds strings alone, which always make JSON: this cannot come back here.
    error(ApiError::new(Reason::Internal, message))
}

/// A path that nobody serves, in the words of Go's ServeMux, as kube-proxy says it.
pub(super) fn page_not_found() -> Response<Full<Bytes>> {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    reply(StatusCode::NOT_FOUND, headers, "404 page not found\n")
}
