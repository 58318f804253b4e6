//! What a backend is called on every node.

use core::{
    fmt::{self, Write},
    net::{IpAddr, SocketAddr},
};

use super::Seed;
use crate::hash::murmur3::murmur3_x64_128;

/// The longest key: `[[` with an IPv6 address of 39 characters, `]:65535/SCTP,State:active]`.
const CAPACITY: usize = 67;

/// The transport of a backend's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name as Kubernetes and the key have it, in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// A backend's name: the text `[ADDR:PORT/PROTO,State:active]`, an IPv6 address again in brackets.
///
/// It is what Cilium hashes. The text is kept in place, so a key is copied without an allocator. Keys are ordered
/// byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    // Bytes first and zeros after the text: the derived order is the order of the text.
    bytes: [u8; CAPACITY],
    length: u8,
}

impl BackendKey {
    /// Names the backend at an address and port; an IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn new(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        let mut key = Self { bytes: [0; CAPACITY], length: 0 };
        let address = SocketAddr::new(address.to_canonical(), port);
        write!(key, "[{address}/{},State:active]", protocol.name()).expect("the longest key fits");
        key
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The 16 bytes after the first, which is the same in all: numbers in the order of the keys, up to ties.
    pub(super) fn prefix(&self) -> u128 {
        u128::from_be_bytes(*self.bytes[1..].first_chunk().expect("a key has room for more"))
    }

    /// The two numbers that lay down the backend's walk.
    pub(super) fn permutation(&self, seed: Seed) -> (u64, u64) {
        murmur3_x64_128(self.as_bytes(), seed.permutation())
    }

    /// The key as one number, for the digest.
    pub(super) fn fingerprint(&self) -> u64 {
        murmur3_x64_128(self.as_bytes(), 0).0
    }
}

impl Write for BackendKey {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.length);
        let place = self.bytes.get_mut(start..start + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length += text.len() as u8;
        Ok(())
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(self.as_bytes()).expect("a key is ASCII"))
    }
}

impl fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec::Vec};

    fn mk_key(address: &str, port: u16, protocol: Protocol) -> BackendKey {
        BackendKey::new(address.parse().expect("an address"), port, protocol)
    }

    #[test]
    fn text_table() {
        let longest = "[[2001:1db8:1111:2222:3333:4444:5555:6666]:65535/SCTP,State:active]";
        for (name, address, port, protocol, want) in [
            ("IPv4", "10.0.0.1", 80, Protocol::Tcp, "[10.0.0.1:80/TCP,State:active]"),
            ("UDP", "10.0.0.1", 53, Protocol::Udp, "[10.0.0.1:53/UDP,State:active]"),
            ("IPv6, zeros pressed", "fd00:0:0:0:0:0:0:1", 8080, Protocol::Tcp, "[[fd00::1]:8080/TCP,State:active]"),
            (
                "one zero group stays",
                "fd00:1:0:2:3:4:5:6",
                1,
                Protocol::Tcp,
                "[[fd00:1:0:2:3:4:5:6]:1/TCP,State:active]",
            ),
            ("IPv4 in IPv6 is IPv4", "::ffff:10.0.0.1", 80, Protocol::Tcp, "[10.0.0.1:80/TCP,State:active]"),
            ("the old form of that is not", "::10.0.0.1", 80, Protocol::Tcp, "[[::a00:1]:80/TCP,State:active]"),
            ("the longest", "2001:1db8:1111:2222:3333:4444:5555:6666", 65_535, Protocol::Sctp, longest),
        ] {
            assert_eq!(mk_key(address, port, protocol).to_string(), want, "{name}");
        }
    }

    #[test]
    fn the_longest_key_fills_its_room() {
        let key = mk_key("2001:1db8:1111:2222:3333:4444:5555:6666", 65_535, Protocol::Sctp);
        assert_eq!(key.as_bytes().len(), CAPACITY);
    }

    #[test]
    fn keys_are_ordered_as_their_text() {
        let mut keys: Vec<BackendKey> = Vec::new();
        for address in
            ["10.0.0.1", "10.0.0.10", "10.0.0.2", "9.0.0.1", "100.100.100.100", "fd00::1", "fd00::1:1", "::1"]
        {
            for port in [1, 10, 9, 8080, 65_535] {
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    keys.push(mk_key(address, port, protocol));
                }
            }
        }
        for a in &keys {
            for b in &keys {
                assert_eq!(a.cmp(b), a.as_bytes().cmp(b.as_bytes()), "{a} and {b}");
                if a.prefix() != b.prefix() {
                    assert_eq!(a.prefix().cmp(&b.prefix()), a.cmp(b), "prefixes of {a} and {b}");
                }
            }
        }
    }
}
