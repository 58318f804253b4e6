//! The objects in the text of one file.

use std::mem;

use serde_json::{Map, Value};

/// The most that a file may hold, in bytes.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// YAML nodes of one document: what [`MAX_BYTES`] of ordinary manifest can reach.
const MAX_NODES: usize = 8 << 20;
/// What aliases may blow a document up by, in YAML events.
const MAX_REPLAYED: usize = 100_000;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// One object, and the line that its document starts at.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// Parses all documents of a file one by one, lists taken apart. The error is one line and says where.
pub(super) fn parse(text: &str, format: Format, each: &mut impl FnMut(Document)) -> Result<(), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Yaml => parse_yaml(text, each),
        Format::Json => parse_json(text, each),
    }
}

fn parse_yaml(text: &str, each: &mut impl FnMut(Document)) -> Result<(), String> {
    for (line, part) in split(text) {
        let values: Vec<Value> =
            serde_saphyr::from_multiple_with_options(part, options()).map_err(|_| explain(line, part))?;
        values.into_iter().for_each(|value| take_apart(value, line, each));
    }
    Ok(())
}

/// Splits a stream at its document markers, each part with the number of its first line, so that a budget is spent per
/// document. A marker is one wherever it stands (YAML 1.2, c-forbidden). Directives belong to the marker after them: a
/// stream that has any stays whole.
fn split(text: &str) -> Vec<(usize, &str)> {
    if text.starts_with('%') || text.contains("\n%") {
        return vec![(1, text)];
    }
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && at > start {
            parts.push((start_line, &text[start..at]));
            (start, start_line) = (at, index + 1);
        }
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Parses a part that does not parse once more, in its place in the file, so that the message has the file's lines.
fn explain(line: usize, part: &str) -> String {
    let placed = "\n".repeat(line - 1) + part;
    match serde_saphyr::from_multiple_with_options::<Value>(&placed, options()) {
        Err(error) => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
        Ok(_) => format!("the document at line {line} cannot be parsed"),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        emit_comments: false,
        with_snippet: false,
    }
}

fn parse_json(text: &str, each: &mut impl FnMut(Document)) -> Result<(), String> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut line, mut counted) = (1, 0);
    loop {
        let rest = &text[stream.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        match stream.next() {
            None => return Ok(()),
            Some(Ok(value)) => take_apart(value, line, each),
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}

/// Hands over the items of a list, or the object itself. The items of a `ServiceList` need not say that they are Services.
fn take_apart(value: Value, line: usize, each: &mut impl FnMut(Document)) {
    let Value::Object(mut object) = value else {
        return each(Document { line, value });
    };
    let item_kind = text_of(&object, "kind").and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    let items = object.get_mut("items").and_then(Value::as_array_mut);
    let (Some(item_kind), Some(items)) = (item_kind, items) else {
        return each(Document { line, value: Value::Object(object) });
    };
    let items = mem::take(items);
    let version = text_of(&object, "apiVersion").map(str::to_owned);
    for mut item in items {
        if let Value::Object(item) = &mut item
            && !item_kind.is_empty()
        {
            item.entry("kind").or_insert_with(|| item_kind.clone().into());
            if let Some(version) = &version {
                item.entry("apiVersion").or_insert_with(|| version.clone().into());
            }
        }
        take_apart(item, line, each);
    }
}

fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(text: &str, format: Format) -> Result<Vec<(usize, Value)>, String> {
        let mut documents = Vec::new();
        parse(text, format, &mut |document| documents.push((document.line, document.value)))?;
        Ok(documents)
    }

    #[test]
    fn streams_of_documents() {
        for (name, text, want) in [
            ("nothing", "", vec![]),
            ("a comment", "# nothing\n", vec![]),
            ("markers alone", "---\n---\n", vec![]),
            ("one", "a: 1\n", vec![(1, json!({"a": 1}))]),
            ("two", "a: 1\n---\nb: 2\n", vec![(1, json!({"a": 1})), (2, json!({"b": 2}))]),
            ("a leading marker", "---\na: 1\n--- # two\nb: 2", vec![(1, json!({"a": 1})), (3, json!({"b": 2}))]),
            ("a value beside the marker", "--- {a: 1}\n", vec![(1, json!({"a": 1}))]),
            ("an end marker", "a: 1\n...\n---\nb: 2\n...\n", vec![(1, json!({"a": 1})), (3, json!({"b": 2}))]),
            ("windows line ends", "a: 1\r\n---\r\nb: 2\r\n", vec![(1, json!({"a": 1})), (2, json!({"b": 2}))]),
            ("dashes in a block", "a: |\n  ---\n  x\n", vec![(1, json!({"a": "---\nx\n"}))]),
            ("dashes that mark nothing", "a: 1\n---b: 2\n", vec![(1, json!({"a": 1, "---b": 2}))]),
            ("a directive", "%YAML 1.2\n---\na: 1\n", vec![(1, json!({"a": 1}))]),
            ("a byte order mark", "\u{feff}a: 1\n", vec![(1, json!({"a": 1}))]),
            ("json is yaml", "{\"a\": [1, null]}", vec![(1, json!({"a": [1, null]}))]),
            (
                "texts stay texts",
                "a: \"1\"\nb: ::1\nc: 2026-01-01T00:00:00Z",
                vec![(1, json!({"a": "1", "b": "::1", "c": "2026-01-01T00:00:00Z"}))],
            ),
            ("anchors", "a: &x {b: 1}\nc: *x\n", vec![(1, json!({"a": {"b": 1}, "c": {"b": 1}}))]),
            ("not an object", "- 1\n", vec![(1, json!([1]))]),
        ] {
            assert_eq!(lines(text, Format::Yaml).as_ref(), Ok(&want), "{name}");
        }
        let text = "{\"a\": 1}\n\n  {\"b\": 2}\n";
        assert_eq!(lines(text, Format::Json), Ok(vec![(1, json!({"a": 1})), (3, json!({"b": 2}))]));
        assert_eq!(lines(" \n", Format::Json), Ok(vec![]));
    }

    #[test]
    fn lists_are_taken_apart() {
        let list = "kind: List\napiVersion: v1\nitems:\n- {kind: Pod}\n- {kind: List, items: [{kind: Node}, 7]}\n";
        let want = vec![(1, json!({"kind": "Pod"})), (1, json!({"kind": "Node"})), (1, json!(7))];
        assert_eq!(lines(list, Format::Yaml), Ok(want));
        let typed = "kind: ServiceList\napiVersion: v1\nitems: [{a: 1}]\n";
        let want = json!({"apiVersion": "v1", "kind": "Service", "a": 1});
        assert_eq!(lines(typed, Format::Yaml), Ok(vec![(1, want)]));
        let no_list = json!({"kind": "AllowList", "items": "none"});
        assert_eq!(lines(&no_list.to_string(), Format::Json), Ok(vec![(1, no_list)]));
    }

    #[test]
    fn mistakes_are_one_line_with_the_files_line_number() {
        for (name, text, place) in [
            ("in the first document", "a: [1\n", "line"),
            ("in a later one", "a: 1\n---\nb: 2\n---\nc: 3\nd: e: f\n", "line 6"),
            ("a tab", "a:\n\t- 1\n", "line 2"),
            ("the same key twice", "x: 1\n---\na: 1\na: 2\n", "line 4"),
        ] {
            let error = lines(text, Format::Yaml).unwrap_err();
            assert!(error.contains(place) && !error.contains('\n'), "{name}: {error}");
        }
        let error = lines("{\"a\": 1}\n{\"b\" 2}\n", Format::Json).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(lines(&laughs, Format::Yaml).is_err());
        assert!(lines(&"[".repeat(100_000), Format::Yaml).is_err());
        assert!(lines(&"[".repeat(100_000), Format::Json).is_err());
        assert!(lines(&"- ".repeat(100_000), Format::Yaml).is_err());
    }
}
