//! Loading the object: maps opened or made, programs verified.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Btf, EbpfError, EbpfLoader,
    programs::{Program, ProgramError},
};

use super::pin;
use crate::maps::raw::RawMap;

/// The object, as `build.rs` found or made it. Empty where the agent was built only to be checked.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-datapath"));

/// The object's bytes: for tests and tools that look into it.
pub const fn object() -> &'static [u8] {
    OBJECT
}

/// Says why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary was built without its object.
    #[error("this binary was built without the BPF object (LB_EBPF_OBJECT=none): build it with ./scripts/build")]
    NoObject,
    /// The object or a map was refused.
    #[error("the BPF object was refused: {}", chain(&**source))]
    Object {
        /// aya's error.
        source: Box<EbpfError>,
    },
    /// A program was refused.
    #[error("program {program} was refused: {}", chain(&**source))]
    Program {
        /// Name of the program.
        program: String,
        /// aya's error, with the verifier's log.
        source: Box<ProgramError>,
    },
    /// A map or program cannot be taken hold of.
    #[error("{name}: {source}")]
    Descriptor {
        /// Name of the map or program.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The pins cannot be used.
    #[error(transparent)]
    Pin(#[from] pin::PinError),
}

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// The directory whose pinned maps are opened; missing ones are made and pinned there.
    pub maps: &'a Path,
    /// Capacities by map name; a map that is not named keeps the object's.
    pub sizes: &'a BTreeMap<String, u32>,
    /// `bpf_set_retval` can be called (5.18).
    pub has_set_retval: bool,
}

/// The programs and maps of one load.
#[derive(Debug)]
pub struct Loaded {
    /// Programs by name.
    pub programs: BTreeMap<String, LoadedProgram>,
    /// Maps by name.
    pub maps: BTreeMap<&'static str, RawMap>,
}

/// A verified program.
#[derive(Debug)]
pub struct LoadedProgram {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// The kernel's number of it.
    pub id: u32,
    /// Instructions that the verifier walked (5.16), for tests and `probe`.
    pub verified: Option<u32>,
    /// Bytes of translated instructions, eight each.
    pub translated: u32,
}

/// Loads the object: opens or makes its maps, has its programs verified. Attaches nothing.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    raise_memlock();
    pin::resize(options.maps, options.sizes)?;
    let has_set_retval = u8::from(options.has_set_retval);
    let mut loader = EbpfLoader::new();
    let btf = Btf::from_sys_fs().ok();
    loader.btf(btf.as_ref()).override_global("HAS_SET_RETVAL", &has_set_retval, true);
    for name in map_names() {
        loader.map_pin_path(name, Cow::Owned::<Path>(options.maps.join(name)));
    }
    for (name, size) in options.sizes {
        loader.map_max_entries(name, *size);
    }
    let mut object = loader.load(OBJECT).map_err(|source| LoadError::Object { source: Box::new(source) })?;
    let names: Vec<String> = object.programs().map(|(name, _)| name.to_owned()).collect();
    let mut programs = BTreeMap::new();
    for name in names {
        if let Some(program) = object.program_mut(&name) {
            programs.insert(name.clone(), verify(&name, program)?);
        }
    }
    let maps = map_names()
        .map(|name| match RawMap::open(&options.maps.join(name)) {
            Ok(map) => Ok((name, map)),
            Err(source) => Err(LoadError::Descriptor { name: name.to_owned(), source }),
        })
        .collect::<Result<_, _>>()?;
    Ok(Loaded { programs, maps })
}

/// Names of all maps, as the object and the pins spell them.
pub fn map_names() -> impl Iterator<Item = &'static str> {
    use lb_ebpf::abi::maps::*;
    [FRONTENDS, BACKENDS, ACTIVE, ADDRESSES, RANGES, AFFINITY, PEERS, DATAGRAMS]
        .into_iter()
        .flatten()
        .chain([STRAYS, ARENA, CLIENTS, CANARY, CONFIG, COUNTERS])
}

fn verify(name: &str, program: &mut Program) -> Result<LoadedProgram, LoadError> {
    let refused = |source| LoadError::Program { program: name.to_owned(), source: Box::new(source) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum; the object holds programs of these two types")]
    let info = match program {
        Program::CgroupSockAddr(program) => program.load().and_then(|()| program.info()),
        Program::CgroupSock(program) => program.load().and_then(|()| program.info()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map_err(refused)?;
    let fd = program.fd().map_err(refused)?.as_fd().try_clone_to_owned();
    let fd = fd.map_err(|source| LoadError::Descriptor { name: name.to_owned(), source })?;
    Ok(LoadedProgram {
        fd,
        id: info.id(),
        verified: info.verified_instruction_count(),
        translated: info.size_translated().unwrap_or(0),
    })
}

/// Below 5.11 maps count against RLIMIT_MEMLOCK. Where it cannot be raised, the kernel's own error says so.
fn raise_memlock() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY) {
        tracing::debug!(%errno, "RLIMIT_MEMLOCK stays as it is");
    }
}

/// Writes an error with its causes in one line; the verifier's log is among them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
