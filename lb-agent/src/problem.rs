//! What is wrong at the moment, for logs and `lbctl status`.

use std::fmt;

/// One thing that is wrong, for as long as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// What sort of thing it is, one word in CamelCase.
    pub kind: &'static str,
    /// The object, as `KIND NAMESPACE/NAME`, or the file, map or device.
    pub object: String,
    /// The field by its path from the object's root; empty if it is about the whole.
    pub field: String,
    /// What is wrong with it, and what is done about it, in one line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind: _, object, field, message } = self;
        if field.is_empty() { write!(f, "{object}: {message}") } else { write!(f, "{object}: {field}: {message}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_named_where_there_is_one() {
        let mut problem =
            Problem { kind: "Test", object: "a".into(), field: "spec.type".into(), message: "is odd".into() };
        assert_eq!(problem.to_string(), "a: spec.type: is odd");
        problem.field.clear();
        assert_eq!(problem.to_string(), "a: is odd");
    }
}
