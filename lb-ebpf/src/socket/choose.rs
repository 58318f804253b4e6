//! From a frontend's word to a backend.

use super::Destination;
use crate::{
    abi::{
        address::Address,
        backend::Backend,
        drops::DropReason,
        flow::Affinity,
        frontend::{Kind, Word, word_flags},
        run::RunHeader,
    },
    tables::{Client, Surroundings, Tables},
};

/// The backend chosen for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<A> {
    /// Where the connection goes.
    pub backend: Backend<A>,
    /// The backend's id.
    pub id: u32,
    /// The connection is counted while it lasts.
    pub counted: bool,
}

/// Chooses a backend from the table that `word` names.
#[inline(always)]
pub fn choose<A, T>(tables: &T, to: &Destination<A>, word: Word) -> Result<Choice<A>, DropReason>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let kind = match word.kind() {
        Some(Kind::Refuse) => return Err(DropReason::NoBackend),
        Some(Kind::Drop) => return Err(DropReason::NoLocalBackend),
        Some(Kind::Canary) => return Err(DropReason::Canary),
        Some(kind @ (Kind::Random | Kind::Maglev | Kind::LeastConnections)) => kind,
        None => return Err(DropReason::Torn),
    };
    let run = header(tables, word)?;
    if word.flags() & word_flags::SOURCE_RANGES != 0 {
        match tables.client() {
            Client::Known(client) if tables.admits(run.service, &client) => {}
            Client::Known(_) => return Err(DropReason::SourceRange),
            Client::Stray(_) => return Err(DropReason::UnknownSource),
        }
    }
    if run.affinity_ticks == 0 {
        return pick(tables, to, word.line(), &run, kind);
    }
    let (client, now) = (tables.client(), tables.ticks());
    let choice = match stuck(tables, &client, &run, now, kind) {
        Some(choice) => choice,
        None => pick(tables, to, word.line(), &run, kind)?,
    };
    tables.set_affinity(&client, run.service, Affinity::new(choice.id, now));
    Ok(choice)
}

/// Loads the header of the run that `word` names, if it is still the run that the word was written for.
#[inline(always)]
pub(super) fn header<A, T>(tables: &T, word: Word) -> Result<RunHeader, DropReason>
where
    A: Address,
    T: Tables<A>,
{
    match tables.header(word.line()) {
        Some(run) if run.generation & 0xfff == word.generation() => Ok(run),
        Some(_) | None => Err(DropReason::Torn),
    }
}

/// The backend that the client sticks to, if its time is not over and the table still has it.
#[inline(always)]
fn stuck<A, T>(tables: &T, client: &Client<A>, run: &RunHeader, now: u32, kind: Kind) -> Option<Choice<A>>
where
    A: Address,
    T: Tables<A>,
{
    let affinity = tables.affinity(client, run.service)?;
    if !affinity.fresh(now, run.affinity_ticks) {
        return None;
    }
    let backend = tables.backend(affinity.backend())?;
    let counted = matches!(kind, Kind::LeastConnections);
    backend.serves(run.service, run.pool).then_some(Choice { backend, id: affinity.backend(), counted })
}

#[inline(always)]
fn pick<A, T>(tables: &T, to: &Destination<A>, line: u32, run: &RunHeader, kind: Kind) -> Result<Choice<A>, DropReason>
where
    A: Address,
    T: Tables<A> + Surroundings<A>,
{
    let index = match kind {
        Kind::Maglev => maglev::slot::slot(hash(tables, to), run.length),
        Kind::Random | Kind::LeastConnections | Kind::Refuse | Kind::Drop | Kind::Canary => {
            maglev::slot::slot(tables.random(), run.length)
        }
    };
    let mut id = tables.id(line, index).ok_or(DropReason::Torn)?;
    let counted = matches!(kind, Kind::LeastConnections);
    if counted {
        let other = maglev::slot::slot(tables.random(), run.length);
        let other = tables.id(line, other).ok_or(DropReason::Torn)?;
        if tables.active(other) < tables.active(id) {
            id = other;
        }
    }
    match tables.backend(id) {
        Some(backend) if backend.serves(run.service, run.pool) => Ok(Choice { backend, id, counted }),
        Some(_) | None => Err(DropReason::Torn),
    }
}

/// Hashes what every node knows of a connection at its socket. The source port is chosen after the backend, so it
/// cannot take part: all connections of a client to a frontend share a slot.
#[inline(always)]
fn hash<A, T>(tables: &T, to: &Destination<A>) -> u32
where
    A: Address,
    T: Surroundings<A>,
{
    let client = match tables.client() {
        Client::Known(address) => address.fold(),
        Client::Stray(cookie) => (cookie as u32) ^ (cookie >> 32) as u32,
    };
    let port = u32::from_be_bytes([to.port[0], to.port[1], to.protocol, A::FAMILY]);
    maglev::hash::hash(&[client, to.address.fold(), port], 0)
}
