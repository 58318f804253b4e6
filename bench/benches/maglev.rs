//! The Maglev fill against maglev-hash and against the bare writes of a table.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use maglev::fill::{Backend, BackendKey, Filler, Protocol, Seed, Size, digest, fill};
use maglev_hash::MaglevTable;

/// Slots and backends: the paper's figure, and the agent's default.
const SHAPES: [(u32, u32); 2] = [(65_537, 1000), (16_381, 100)];

fn benches(c: &mut Criterion) {
    for (slots, count) in SHAPES {
        let size = Size::new(slots).expect("a known size");
        let shape = format!("{slots}x{count}");
        let mut group = c.benchmark_group("maglev");

        let equal = backends(count, |_| 1);
        let mut table = Vec::new();
        group.bench_function(BenchmarkId::new("full", &shape), |b| {
            b.iter(|| fill(size, Seed::DEFAULT, black_box(&equal), &mut table));
        });

        let weighted = backends(count, |i| i % 100 + 1);
        group.bench_function(BenchmarkId::new("full, weights 1 to 100", &shape), |b| {
            b.iter(|| fill(size, Seed::DEFAULT, black_box(&weighted), &mut table));
        });

        // One backend leaves or comes back each time.
        let mut filler = Filler::new(size, Seed::DEFAULT);
        for (backend, id) in equal.iter().zip(0..) {
            filler.set(backend.key, 1, id);
        }
        let guest = equal[equal.len() / 2].key;
        group.bench_function(BenchmarkId::new("incremental", &shape), |b| {
            b.iter(|| {
                if !filler.remove(black_box(&guest)) {
                    filler.set(guest, 1, 0);
                }
                filler.fill(&mut table);
            });
        });

        let names: Vec<String> = equal.iter().map(|backend| backend.key.to_string()).collect();
        group.bench_function(BenchmarkId::new("maglev-hash", &shape), |b| {
            b.iter_batched(
                || names.clone(),
                |names| MaglevTable::with_capacity(names, slots as usize),
                BatchSize::LargeInput,
            );
        });

        fill(size, Seed::DEFAULT, &equal, &mut table);
        group.bench_function(BenchmarkId::new("digest", &shape), |b| b.iter(|| digest(black_box(&table), &equal)));

        group.bench_function(BenchmarkId::new("floor, writes in order", &shape), |b| {
            b.iter(|| {
                for (slot, id) in table.iter_mut().zip(0..) {
                    *slot = black_box(id);
                }
            });
        });

        // One walk over all slots: each is written once, far from the one before.
        let skip = 40_503 % slots;
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
        group.finish();
    }
}

fn backends(count: u32, weight: impl Fn(u32) -> u32) -> Vec<Backend> {
    (0..count)
        .map(|i| {
            let address = [10, 244, (i / 250) as u8, (i % 250 + 1) as u8];
            Backend { key: BackendKey::new(address.into(), 8080, Protocol::Tcp), weight: weight(i) }
        })
        .collect()
}

criterion_group!(maglev, benches);
criterion_main!(maglev);
