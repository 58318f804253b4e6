//! The maps. Sizes here are the smallest that load: the agent sets the real ones from its configuration.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use lb_ebpf::abi::{
    address::{Address, V4, V6},
    backend::Backend,
    config::Config,
    drops::COUNTERS as COUNTER_ENTRIES,
    flow::{Affinity, AffinityKey, Client, Datagram, DatagramKey, Peer, Sighting, StrayKey},
    frontend::{FrontendKey, Word},
    run::LINE_WORDS,
};

/// Entries of a map whose size the agent sets.
const SIZED: usize = 1024;
const MMAP: usize = BPF_F_MMAPABLE as usize;

/// A value as the kernel places it: at a multiple of 8 bytes.
#[repr(C, align(8))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// A line of the arena.
#[repr(C, align(8))]
pub(crate) struct Line(pub(crate) [u32; LINE_WORDS as usize]);

/// A source range behind its prefix length: the service, then the address.
#[repr(C)]
pub(crate) struct Range<A> {
    pub(crate) service: [u8; 4],
    pub(crate) address: A,
}

pub(crate) type Frontends<A> = HashMap<FrontendKey<A>, Word, SIZED>;
pub(crate) type Backends<A> = Array<Aligned<Backend<A>>, SIZED, MMAP>;
pub(crate) type Active = Array<u64, SIZED>;
pub(crate) type Addresses<A> = HashMap<A, u32, SIZED>;
pub(crate) type Ranges<A> = LpmTrie<Range<A>, u8, SIZED>;
pub(crate) type Affinities<A> = LruHashMap<AffinityKey<A>, Affinity, SIZED>;
pub(crate) type Peers<A> = HashMap<u64, Peer<A>, SIZED>;
pub(crate) type Datagrams<A> = LruHashMap<DatagramKey<A>, Datagram<A>, SIZED>;

macro_rules! family {
    ($family:ty: $frontends:ident $backends:ident $active:ident $addresses:ident $ranges:ident $affinity:ident
     $peers:ident $datagrams:ident) => {
        #[btf_map]
        static $frontends: Frontends<$family> = Frontends::new();
        #[btf_map]
        static $backends: Backends<$family> = Backends::new();
        #[btf_map]
        static $active: Active = Active::new();
        #[btf_map]
        static $addresses: Addresses<$family> = Addresses::new();
        #[btf_map]
        static $ranges: Ranges<$family> = Ranges::new();
        #[btf_map]
        static $affinity: Affinities<$family> = Affinities::new();
        #[btf_map]
        static $peers: Peers<$family> = Peers::new();
        #[btf_map]
        static $datagrams: Datagrams<$family> = Datagrams::new();

        impl Maps for $family {
            fn frontends() -> &'static Frontends<Self> {
                &$frontends
            }
            fn backends() -> &'static Backends<Self> {
                &$backends
            }
            fn active() -> &'static Active {
                &$active
            }
            fn addresses() -> &'static Addresses<Self> {
                &$addresses
            }
            fn ranges() -> &'static Ranges<Self> {
                &$ranges
            }
            fn affinity() -> &'static Affinities<Self> {
                &$affinity
            }
            fn peers() -> &'static Peers<Self> {
                &$peers
            }
            fn datagrams() -> &'static Datagrams<Self> {
                &$datagrams
            }
        }
    };
}

/// The maps of a family.
pub(crate) trait Maps: Address {
    fn frontends() -> &'static Frontends<Self>;
    fn backends() -> &'static Backends<Self>;
    fn active() -> &'static Active;
    fn addresses() -> &'static Addresses<Self>;
    fn ranges() -> &'static Ranges<Self>;
    fn affinity() -> &'static Affinities<Self>;
    fn peers() -> &'static Peers<Self>;
    fn datagrams() -> &'static Datagrams<Self>;
}

#[expect(non_upper_case_globals, reason = "the name of the static is the name of the map")]
mod statics {
    use super::*;

    family!(V4: frontends4 backends4 active4 addresses4 ranges4 affinity4 peers4 datagrams4);
    family!(V6: frontends6 backends6 active6 addresses6 ranges6 affinity6 peers6 datagrams6);

    #[btf_map]
    pub(crate) static arena: Array<Line, SIZED, MMAP> = Array::new();
    #[btf_map]
    pub(crate) static strays: LruHashMap<StrayKey, Affinity, SIZED> = LruHashMap::new();
    #[btf_map]
    pub(crate) static clients: HashMap<u64, Client, SIZED> = HashMap::new();
    #[btf_map]
    pub(crate) static canary: LruHashMap<u64, Sighting, SIZED> = LruHashMap::new();
    #[btf_map]
    pub(crate) static config: Array<Config, 1> = Array::new();
    #[btf_map]
    pub(crate) static counters: PerCpuArray<u64, { COUNTER_ENTRIES as usize }> = PerCpuArray::new();
}

pub(crate) use statics::{arena, canary, clients, config, counters, strays};
