//! How answers are printed: `-o table|json|yaml`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Serialize;
use serde_saphyr::SerializerOptions;

/// A form of printing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// What has a form for people.
pub trait Show {
    /// Writes it in columns; `now` in seconds since 1970, for ages.
    fn table(&self, now: u64) -> String;
}

/// Says why an answer cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// As JSON.
    #[error("the answer cannot be written as JSON: {source}")]
    Json {
        /// Why.
        #[from]
        source: serde_json::Error,
    },
    /// As YAML.
    #[error("the answer cannot be written as YAML: {source}")]
    Yaml {
        /// Why.
        #[from]
        source: serde_saphyr::ser::Error,
    },
}

/// Writes an answer.
pub fn write(value: &(impl Serialize + Show + ?Sized), output: Output, out: &mut Vec<u8>) -> Result<(), OutputError> {
    match output {
        Output::Table => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            out.extend_from_slice(value.table(now.as_secs()).as_bytes());
            Ok(())
        }
        Output::Json | Output::Yaml => write_data(value, output, out),
    }
}

/// Writes what has no form of its own for people: those read it as YAML.
pub fn write_data(value: &(impl Serialize + ?Sized), output: Output, out: &mut Vec<u8>) -> Result<(), OutputError> {
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, value)?;
            out.push(b'\n');
        }
        Output::Table | Output::Yaml => {
            let mut options = SerializerOptions::default();
            // One value, one line: easier to compare and to grep than folded text.
            options.prefer_block_scalars = false;
            let mut text = String::new();
            serde_saphyr::to_fmt_writer_with_options(&mut text, &value, options)?;
            out.extend_from_slice(text.as_bytes());
        }
    }
    Ok(())
}
