//! The bpf(2) calls on maps that aya does not have: bytes in, bytes out, batches and memory-mapped arrays.
#![expect(unsafe_code, reason = "system calls and mapped memory")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
/// The kernel's own errno for "this map type has no such operation"; it has no name in user space.
const ENOTSUPP: i32 = 524;

/// Calls bpf(2); the attribute is the zero-padded head of `union bpf_attr`.
pub(crate) fn bpf<T: IntoBytes + Immutable>(command: libc::c_long, attribute: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads `size_of` bytes behind the pointer and writes only where the attribute's own pointers
    // say, which the callers in this file and in `datapath` keep alive across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`bpf`], for commands that answer with a file descriptor.
pub(crate) fn bpf_fd<T: IntoBytes + Immutable>(command: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us alone.
    bpf(command, attribute).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(crate) fn address_of<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

/// The head of the attribute of BPF_MAP_CREATE, up to the name.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Element {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct InfoRequest {
    fd: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
#[repr(C)]
pub struct Shape {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// The kernel's number of the map.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Flags it was made with.
    pub flags: u32,
}

/// A map as bytes.
#[derive(Debug)]
pub struct RawMap {
    fd: OwnedFd,
    shape: Shape,
}

/// An entry of a map: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl RawMap {
    /// Takes over an open map.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut shape = Shape::default();
        info(fd.as_fd(), &mut shape)?;
        Ok(Self { fd, shape })
    }

    /// Opens a pinned map.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(get(path)?)
    }

    /// Opens a second descriptor of the map.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, shape: self.shape })
    }

    /// Counts the elements. The kernel keeps no count: all are read.
    pub fn count(&self) -> io::Result<u64> {
        self.entries().map(|entries| entries.len() as u64)
    }

    /// What the map is.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads an element; a per-CPU map has no place here.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.shape.value_size as usize];
        self.check(key, &value)?;
        absent(self.element(MAP_LOOKUP_ELEM, key, value.as_mut_ptr() as u64, 0)).map(|found| found.map(|()| value))
    }

    /// Reads an element of a per-CPU map of u64 and adds the CPUs up.
    pub fn sum(&self, key: u32) -> io::Result<u64> {
        // The kernel writes a slot for each possible CPU, whatever their number is here.
        let mut values = vec![0u64; possible_cpus()];
        self.element(MAP_LOOKUP_ELEM, &key.to_ne_bytes(), values.as_mut_ptr() as u64, 0)?;
        Ok(values.iter().sum())
    }

    /// Writes an element.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, value)?;
        self.element(MAP_UPDATE_ELEM, key, value.as_ptr() as u64, 0)
    }

    /// Removes an element; one that is not there is fine.
    pub fn remove(&self, key: &[u8]) -> io::Result<()> {
        self.check(key, &vec![0; self.shape.value_size as usize])?;
        absent(self.element(MAP_DELETE_ELEM, key, 0, 0)).map(|_| ())
    }

    /// Reads all elements. Others may write meanwhile: an element that moves may be missed or seen twice.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        match self.batches() {
            // Batches came in 5.6 for hashes and arrays, in 5.14 for LPM tries.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP)) => self.walk(),
            result => result,
        }
    }

    fn walk(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0u8; self.shape.key_size as usize];
            let from = last.as_ref().map_or(0, |key| key.as_ptr() as u64);
            let attribute = Element {
                map: self.fd.as_raw_fd() as u32,
                _padding: 0,
                key: from,
                value: next.as_mut_ptr() as u64,
                flags: 0,
            };
            if absent(bpf(MAP_GET_NEXT_KEY, &attribute).map(|_| ()))?.is_none() {
                return Ok(entries);
            }
            if let Some(value) = self.get(&next)? {
                entries.push((next.clone(), value));
            }
            // A map that changes can send the walk round in a circle; more keys than it can hold end it.
            if entries.len() > self.shape.max_entries as usize {
                return Ok(entries);
            }
            last = Some(next);
        }
    }

    fn batches(&self) -> io::Result<Vec<Entry>> {
        let (key_size, value_size) = (self.shape.key_size as usize, self.shape.value_size as usize);
        let chunk = 4096.min(self.shape.max_entries).max(64);
        let mut entries = Vec::new();
        let (mut keys, mut values) = (vec![0u8; chunk as usize * key_size], vec![0u8; chunk as usize * value_size]);
        // The place to go on from is opaque: a bucket number or a key, whichever is larger.
        let (mut from, mut to) = (vec![0u8; key_size.max(8)], vec![0u8; key_size.max(8)]);
        let mut first = true;
        loop {
            let mut attribute = Batch {
                from: if first { 0 } else { from.as_ptr() as u64 },
                to: to.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: chunk,
                map: self.fd.as_raw_fd() as u32,
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: as in `bpf`; the kernel also writes the number of elements back into the attribute.
            let result = unsafe {
                libc::syscall(libc::SYS_bpf, MAP_LOOKUP_BATCH, std::ptr::from_mut(&mut attribute), size_of::<Batch>())
            };
            let error = if result < 0 { Some(io::Error::last_os_error()) } else { None };
            let done = match error {
                None => false,
                Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // A bucket holds more than the buffer: the walk by keys has no such limit.
                Some(error) if error.raw_os_error() == Some(libc::ENOSPC) => return self.walk(),
                Some(error) => return Err(error),
            };
            let count = attribute.count as usize;
            let pairs = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size)).take(count);
            entries.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
            if done {
                return Ok(entries);
            }
            std::mem::swap(&mut from, &mut to);
            first = false;
        }
    }

    fn element(&self, command: libc::c_long, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
        let attribute =
            Element { map: self.fd.as_raw_fd() as u32, _padding: 0, key: key.as_ptr() as u64, value, flags };
        bpf(command, &attribute).map(|_| ())
    }

    /// The kernel reads and writes as many bytes as the map says: a shorter buffer must not reach it.
    fn check(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() == self.shape.key_size as usize && value.len() == self.shape.value_size as usize {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a key of {} and a value of {} bytes for a map of {} and {}",
                key.len(),
                value.len(),
                self.shape.key_size,
                self.shape.value_size
            ),
        ))
    }
}

/// A memory-mapped array (BPF_F_MMAPABLE, 5.5): values lie behind each other, each rounded up to 8 bytes.
#[derive(Debug)]
pub struct Mapping {
    base: *mut AtomicU64,
    words: usize,
}

// SAFETY: the memory is shared with the kernel anyway; all access goes through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a whole array.
    pub fn new(map: &RawMap) -> io::Result<Self> {
        let stride = (map.shape.value_size as usize).next_multiple_of(8);
        let bytes = stride * map.shape.max_entries as usize;
        // SAFETY: a fresh shared mapping of the array, which stays until `drop`.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), words: bytes / 8 })
    }

    /// The number of u64 words.
    pub const fn words(&self) -> usize {
        self.words
    }

    /// Copies another mapping to the beginning of this one, which must be as long.
    pub fn copy_from(&self, from: &Self) -> io::Result<()> {
        if from.words > self.words {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the new mapping is shorter than the old one"));
        }
        for at in 0..from.words {
            // Untouched pages of a fresh map stay untouched.
            match from.word(at).load(Ordering::Acquire) {
                0 => {}
                word => self.word(at).store(word, Ordering::Release),
            }
        }
        Ok(())
    }

    /// Reads `out.len()` bytes (a multiple of 8) from word `at`.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        for (index, bytes) in out.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(at + index).load(Ordering::Acquire).to_ne_bytes());
        }
    }

    /// Writes `bytes` (a multiple of 8) from word `at` on, each word whole, and before anything written later.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        for (index, bytes) in bytes.chunks_exact(8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            self.word(at + index).store(u64::from_ne_bytes(word), Ordering::Release);
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.words, "word {at} of a mapping of {}", self.words);
        // SAFETY: inside the mapping by the line above, aligned since a page is.
        unsafe { &*self.base.add(at) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length; a failure leaves it mapped, which harms nothing.
        unsafe { libc::munmap(self.base.cast(), self.words * 8) };
    }
}

/// Makes a map of the same shape with another capacity.
pub fn create_like(map: &RawMap, name: &str, max_entries: u32) -> io::Result<RawMap> {
    let mut attribute = Create {
        kind: map.shape.kind,
        key_size: map.shape.key_size,
        value_size: map.shape.value_size,
        max_entries,
        flags: map.shape.flags,
        inner: 0,
        numa_node: 0,
        name: [0; 16],
    };
    // The kernel takes 15 bytes and a zero.
    for (to, from) in attribute.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    RawMap::new(bpf_fd(MAP_CREATE, &attribute)?)
}

/// Pins an object under a path on a bpffs.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = text(path)?;
    bpf(OBJ_PIN, &Pin { path: address_of(path.to_bytes()), fd: fd.as_raw_fd() as u32, flags: 0 }).map(|_| ())
}

/// Opens a pinned object.
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = text(path)?;
    bpf_fd(OBJ_GET, &Pin { path: address_of(path.to_bytes()), fd: 0, flags: 0 })
}

/// Reads what the kernel knows of an object into the head of its info struct.
pub(crate) fn info<T: IntoBytes + FromBytes + Immutable>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let request =
        InfoRequest { fd: fd.as_raw_fd() as u32, length: size_of::<T>() as u32, info: std::ptr::from_mut(info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &request).map(|_| ())
}

fn text(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(std::ffi::CString::new(path.as_os_str().as_bytes())?)
}

fn absent(result: io::Result<()>) -> io::Result<Option<()>> {
    match result {
        Ok(()) => Ok(Some(())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn possible_cpus() -> usize {
    // "0-3" or "0,2-5": the highest number counts, since the kernel lays out a slot for each.
    std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|text| text.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok())
        .map_or(1024, |last| last + 1)
}
