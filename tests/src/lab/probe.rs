//! "What happens to this connection", answered by making it: the queries of `lbctl explain`, over real sockets.

mod target;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::target::Directory;
use super::{
    Lab,
    client::{Dial, Http, Protocol, Reply},
};

/// The number of connections for each backend that could answer: with a random choice, one is missed once in 10^8 queries.
const TRIES_FOR_EACH: usize = 20;
/// How many queries are asked at the same time.
const SIDE_BY_SIDE: usize = 8;

/// One question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// `NS/POD`, an address, a client's or a node's name, or `node` for the node that is asked about.
    pub from: String,
    /// `NS/POD`, `service:NS/NAME`, an address, a node's name, or `node`.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// What is asked over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// The protocol of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP, from a connected socket.
    Udp,
    /// SCTP.
    Sctp,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was answered.
    Allow,
    /// It was refused at once: ECONNREFUSED, or a reset.
    Refuse,
    /// It got no answer, or none but that there is no way: a timeout, EHOSTUNREACH, EPERM.
    Drop,
    /// An HTTP request was answered by 403.
    #[serde(rename = "http-403")]
    Http403,
    /// Several tries had several outcomes.
    Mixed,
    /// The query has no sense here, or something else went wrong.
    Error,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What became of all tries.
    pub verdict: Verdict,
    /// The servers' own addresses as their sockets saw them, sorted.
    pub backends: Vec<SocketAddr>,
    /// The addresses that the servers saw asking, sorted.
    pub source_seen: Vec<IpAddr>,
    /// How many tries had which outcome: `ok`, or an errno's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, usize>,
    /// With `error`: a word for why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With `error`: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Answer {
    /// Returns the answer to a line that is no query.
    pub fn bad_query(text: impl ToString) -> Self {
        Self::error("BadQuery", text.to_string())
    }

    fn error(reason: &str, text: String) -> Self {
        Self {
            verdict: Verdict::Error,
            backends: Vec::new(),
            source_seen: Vec::new(),
            outcomes: BTreeMap::new(),
            reason: Some(reason.to_owned()),
            text: Some(text),
        }
    }

    fn of(tries: &[Reply], with_http: bool) -> Self {
        let answers = || tries.iter().filter_map(|reply| reply.answer.as_ref());
        let verdicts: BTreeSet<Verdict> = tries.iter().map(|reply| judge(reply, with_http)).collect();
        let mut outcomes = BTreeMap::new();
        for reply in tries {
            *outcomes.entry(reply.outcome().to_owned()).or_default() += 1;
        }
        let mut verdicts = verdicts.into_iter();
        Self {
            verdict: match (verdicts.next(), verdicts.next()) {
                (Some(verdict), None) => verdict,
                (None, _) => Verdict::Error,
                (Some(_), Some(_)) => Verdict::Mixed,
            },
            backends: answers().map(|answer| answer.address).collect::<BTreeSet<_>>().into_iter().collect(),
            source_seen: answers().map(|answer| answer.source.ip()).collect::<BTreeSet<_>>().into_iter().collect(),
            outcomes,
            reason: None,
            text: None,
        }
    }
}

fn judge(reply: &Reply, with_http: bool) -> Verdict {
    match reply.outcome() {
        "ok" if with_http && reply.status == Some(403) => Verdict::Http403,
        "ok" => Verdict::Allow,
        "ECONNREFUSED" | "ECONNRESET" => Verdict::Refuse,
        "TIMEOUT" | "ETIMEDOUT" | "EHOSTUNREACH" | "EPERM" => Verdict::Drop,
        _ => Verdict::Error,
    }
}

/// How queries are asked.
#[derive(Clone, Debug, Default)]
pub struct ProbeOptions {
    /// The number of tries for each query; by default 20 for each backend that could answer.
    pub tries: Option<u32>,
    /// The node that `node` means; the first one by default.
    pub node: Option<String>,
}

impl Lab {
    /// Asks one query.
    pub fn probe(&self, query: &Query, options: &ProbeOptions) -> Result<Answer> {
        let directory = Directory::new(self, options.node.as_deref())?;
        self.ask(query, options, &directory)
    }

    /// Asks many queries, a few side by side; the answers come in the order of the queries, each as soon as it can.
    pub fn probe_all(
        &self,
        queries: &[std::result::Result<Query, String>],
        options: &ProbeOptions,
        mut answered: impl FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let directory = Directory::new(self, options.node.as_deref())?;
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..SIDE_BY_SIDE.min(queries.len()) {
                let (sender, next, directory) = (sender.clone(), &next, &directory);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(query) = queries.get(index) else { return };
                        let answer = match query {
                            Ok(query) => self.ask(query, options, directory),
                            Err(text) => Ok(Answer::bad_query(text)),
                        };
                        if sender.send((index, answer)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut due = 0;
            for (index, answer) in receiver {
                early.insert(index, answer?);
                while let Some(answer) = early.remove(&due) {
                    answered(answer)?;
                    due += 1;
                }
            }
            Ok(())
        })
    }

    fn ask(&self, query: &Query, options: &ProbeOptions, directory: &Directory<'_>) -> Result<Answer> {
        let protocol = match query.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => return Ok(Answer::error("NoSctp", "the lab's servers speak no SCTP".to_owned())),
        };
        let (source, address) = match directory.source(&query.from).and_then(|s| Ok((s, directory.target(&query.to)?)))
        {
            Ok(found) => found,
            Err(error) => return Ok(Answer::bad_query(format!("{error:#}"))),
        };
        if source.bind.is_some_and(|bind| bind.is_ipv4() != address.is_ipv4()) {
            return Ok(Answer::bad_query(format!("from {} to {address}: two families", query.from)));
        }
        let likely = directory.endpoints(address, query.port) * TRIES_FOR_EACH;
        let tries = options.tries.map_or(likely.max(TRIES_FOR_EACH) as u32, |tries| tries.max(1));
        let dial = Dial {
            from: source.bind,
            parallel: tries.min(32),
            http: query.http.clone().unwrap_or_default(),
            ..Dial::new(SocketAddr::new(address, query.port), protocol, tries)
        };
        let tries = self.client(&source.place)?.dial(dial)?;
        Ok(Answer::of(&tries, query.http.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(errno: Option<&str>, status: u16) -> Reply {
        Reply { ok: errno.is_none(), errno: errno.map(str::to_owned), status: Some(status), ..Reply::default() }
    }

    #[test]
    fn verdict_table() {
        for (name, tries, http, want) in [
            ("answered", vec![reply(None, 200), reply(None, 200)], false, Verdict::Allow),
            ("a 403 that was not asked for", vec![reply(None, 403)], false, Verdict::Allow),
            ("a 403", vec![reply(None, 403)], true, Verdict::Http403),
            ("refused", vec![reply(Some("ECONNREFUSED"), 0), reply(Some("ECONNRESET"), 0)], false, Verdict::Refuse),
            ("dropped", vec![reply(Some("TIMEOUT"), 0), reply(Some("EPERM"), 0)], false, Verdict::Drop),
            ("no route", vec![reply(Some("EHOSTUNREACH"), 0)], false, Verdict::Drop),
            ("half", vec![reply(None, 200), reply(Some("TIMEOUT"), 0)], false, Verdict::Mixed),
            ("strange", vec![reply(Some("EINVAL"), 0)], false, Verdict::Error),
        ] {
            assert_eq!(Answer::of(&tries, http).verdict, want, "{name}");
        }
    }

    #[test]
    fn queries_are_as_documented() {
        let query: Query = serde_json::from_str(r#"{"from":"a/b","to":"service:a/c","port":80}"#).expect("is fine");
        assert_eq!(query.protocol, Transport::Tcp);
        for line in [
            r#"{"from":"a/b","to":"c","port":70000}"#,
            r#"{"from":"a/b","port":80}"#,
            r#"{"from":"a","to":"b","port":1,"protocol":"ICMP"}"#,
            r#"{"from":"a","to":"b","port":1,"prot":"TCP"}"#,
        ] {
            assert!(serde_json::from_str::<Query>(line).is_err(), "{line}");
        }
    }
}
