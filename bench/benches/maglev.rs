//! The Maglev fill against maglev-hash, and against the bare writes of a table.
//!
//! Each round fills for another set of backends: filled again and again for one set, a table's branches are learnt by
//! heart, and both crates look better than any agent would see them.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_bench::ThreadTime;
use maglev::fill::{Backend, BackendKey, Filler, Protocol, Seed, Size, digest, fill};
use maglev_hash::MaglevTable;

/// Slots and backends: the paper's figure, and the agent's default.
const SHAPES: [(u32, u32); 2] = [(65_537, 1000), (16_381, 100)];

const SETS: u8 = 32;

fn fills(c: &mut Criterion<ThreadTime>) {
    for (slots, count) in SHAPES {
        let size = Size::new(slots).expect("a known size");
        let shape = format!("{slots}x{count}");
        let mut group = c.benchmark_group("maglev");
        let sets: Vec<Vec<Backend>> = (0..SETS).map(|set| backends(set, count, |_| 1)).collect();
        let mut table = Vec::new();

        let mut next = sets.iter().cycle();
        group.bench_function(BenchmarkId::new("full", &shape), |b| {
            b.iter(|| fill(size, Seed::DEFAULT, next.next().expect("a cycle"), &mut table));
        });

        // In each set, one backend leaves or comes back.
        let mut fillers: Vec<Filler> = sets.iter().map(|set| filler(size, set)).collect();
        let guest = count / 2;
        let mut next = (0..usize::from(SETS)).cycle();
        group.bench_function(BenchmarkId::new("incremental", &shape), |b| {
            b.iter(|| {
                let set = next.next().expect("a cycle");
                let key = sets[set][guest as usize].key;
                if !fillers[set].remove(&key) {
                    fillers[set].set(key, 1, guest);
                }
                fillers[set].fill(&mut table);
            });
        });

        let names: Vec<Vec<String>> =
            sets.iter().map(|set| set.iter().map(|backend| backend.key.to_string()).collect()).collect();
        let mut next = names.iter().cycle();
        group.bench_function(BenchmarkId::new("maglev-hash", &shape), |b| {
            b.iter_batched(
                || next.next().expect("a cycle").clone(),
                |names| MaglevTable::with_capacity(names, slots as usize),
                BatchSize::LargeInput,
            );
        });

        // One walk over all slots: each is written once, far from the one before.
        let skip = slots / 3 * 2 + 1;
        group.bench_function(BenchmarkId::new("floor, writes in a walk", &shape), |b| {
            b.iter(|| {
                let mut slot = 0;
                for id in 0..slots {
                    table[slot as usize] = id;
                    slot += skip;
                    slot = slot.min(slot.wrapping_sub(slots));
                }
                black_box(&mut table);
            });
        });

        group.bench_function(BenchmarkId::new("floor, writes in order", &shape), |b| {
            b.iter(|| {
                table.iter_mut().zip(0..).for_each(|(slot, id)| *slot = id);
                black_box(&mut table);
            });
        });

        let weighted: Vec<Vec<Backend>> = (0..SETS).map(|set| backends(set, count, |i| i % 100 + 1)).collect();
        let mut next = weighted.iter().cycle();
        group.bench_function(BenchmarkId::new("full, weights 1 to 100", &shape), |b| {
            b.iter(|| fill(size, Seed::DEFAULT, next.next().expect("a cycle"), &mut table));
        });

        fill(size, Seed::DEFAULT, &sets[0], &mut table);
        group.bench_function(BenchmarkId::new("digest", &shape), |b| {
            b.iter(|| digest(black_box(&table), &sets[0]));
        });
        group.finish();
    }
}

/// What a flow pays in the agent; the kernel programs compile the same code.
fn flow(c: &mut Criterion<ThreadTime>) {
    let mut group = c.benchmark_group("maglev");
    group.bench_function("hash and slot, 4 words", |b| {
        b.iter(|| slot_of([10 << 24 | 7, 10 << 24 | 10, 40_000 << 16 | 80, 6]))
    });
    group.bench_function("hash and slot, 10 words", |b| {
        b.iter(|| slot_of([0xfd00_0000, 0, 0, 7, 0xfd00_0000, 0, 0, 10, 40_000 << 16 | 80, 6]))
    });
    group.finish();
}

fn slot_of<const N: usize>(words: [u32; N]) -> u32 {
    maglev::slot(maglev::hash(&black_box(words), Seed::DEFAULT.flow()), black_box(16_381))
}

fn backends(set: u8, count: u32, weight: impl Fn(u32) -> u32) -> Vec<Backend> {
    (0..count)
        .map(|i| {
            let address = [10, set, (i / 250) as u8, (i % 250 + 1) as u8];
            Backend { key: BackendKey::new(address.into(), 8080, Protocol::Tcp), weight: weight(i) }
        })
        .collect()
}

fn filler(size: Size, backends: &[Backend]) -> Filler {
    let mut filler = Filler::new(size, Seed::DEFAULT);
    for (backend, id) in backends.iter().zip(0..) {
        filler.set(backend.key, backend.weight, id);
    }
    filler
}

criterion_group! {
    name = maglev;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = fills, flow
}
criterion_main!(maglev);
