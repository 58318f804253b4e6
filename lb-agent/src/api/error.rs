//! Answers that are no.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Says why there is no answer: the body of every response that is not 200, as `{"error": {"reason", "message"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind of error, for programs.
    pub reason: Reason,
    /// The error, for people: one line.
    pub message: String,
}

/// Kinds of errors; docs/api.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No such path: 404.
    UnknownPath,
    /// The path or query does not parse: 400.
    BadQuery,
    /// Anything but GET and HEAD: 405.
    BadMethod,
    /// No such service or port: 404.
    NotFound,
    /// The service exists and uses another algorithm: 409.
    NotMaglev,
    /// The agent cannot answer yet, or any more: 503.
    Unavailable,
    /// The agent failed, as in reading a map: 500.
    Internal,
    /// A reason of another version of the agent.
    #[serde(other)]
    Other,
}

/// The body that carries an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

impl ApiError {
    /// Builds an error.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Reason {
    /// The status code that goes with it.
    pub const fn code(self) -> StatusCode {
        match self {
            Self::BadQuery => StatusCode::BAD_REQUEST,
            Self::UnknownPath | Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotMaglev => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Other => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
