//! Our distances beside those of SimSIMD, at the dimensions of common embedding models.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use pg_answer_vector::{Element, distance};
use simsimd::SpatialSimilarity;

const DIMENSIONS: [usize; 4] = [384, 768, 1024, 1536];

/// A name, our function, and SimSIMD's function for the same.
type Pair<T, S> = (&'static str, fn(&[T], &[T]) -> f64, fn(&[S], &[S]) -> Option<f64>);

/// Elements at the beginning of a cache line, so that both sides read as many of them.
struct Aligned<T> {
    buffer: Vec<T>,
    start: usize,
    n: usize,
}

impl<T: Copy> Aligned<T> {
    /// Sines `step` apart.
    fn new(n: usize, step: f32, element: fn(f32) -> T) -> Self {
        const LINE: usize = 64;
        let mut buffer = vec![element(0.0); n + LINE];
        let start = buffer.as_ptr().align_offset(LINE);
        for (i, x) in buffer[start..start + n].iter_mut().enumerate() {
            *x = element((i as f32 * step).sin());
        }
        Self { buffer, start, n }
    }

    fn get(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.n]
    }
}

fn compare<T: Element, S: Copy>(
    criterion: &mut Criterion,
    element: &str,
    ours: fn(f32) -> T,
    theirs: fn(f32) -> S,
    pairs: [Pair<T, S>; 3],
) {
    for (name, our_function, their_function) in pairs {
        let mut group = criterion.benchmark_group(format!("{name} {element}"));
        for n in DIMENSIONS {
            let [our_a, our_b] = [0.7, 1.3].map(|step| Aligned::new(n, step, ours));
            let [their_a, their_b] = [0.7, 1.3].map(|step| Aligned::new(n, step, theirs));
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(BenchmarkId::new("ours", n), |bencher| {
                bencher.iter(|| our_function(black_box(our_a.get()), black_box(our_b.get())));
            });
            group.bench_function(BenchmarkId::new("simsimd", n), |bencher| {
                bencher.iter(|| their_function(black_box(their_a.get()), black_box(their_b.get())));
            });
        }
        group.finish();
    }
}

fn pairs<T: Element, S: SpatialSimilarity>() -> [Pair<T, S>; 3] {
    [
        ("dot", |a, b| f64::from(distance::inner_product(a, b)), S::dot),
        ("l2sq", |a, b| f64::from(distance::l2_squared(a, b)), S::l2sq),
        ("cos", distance::cosine_distance, S::cos),
    ]
}

fn distances(criterion: &mut Criterion) {
    compare::<f32, f32>(criterion, "f32", |x| x, |x| x, pairs());
    compare::<f16, simsimd::f16>(
        criterion,
        "f16",
        f16::from_f32,
        |x| simsimd::f16(f16::from_f32(x).to_bits()),
        pairs(),
    );
}

criterion_group!(benches, distances);
criterion_main!(benches);
