//! Our distances beside those of SimSIMD, at the dimensions of common embedding models.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use pg_answer_vector::{Element, distance};
use simsimd::SpatialSimilarity;

const DIMENSIONS: [usize; 4] = [384, 768, 1024, 1536];

/// A name, our function, and SimSIMD's function for the same.
type Pair<T, S> = (&'static str, fn(&[T], &[T]) -> f64, fn(&[S], &[S]) -> Option<f64>);

fn elements(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

fn compare<T: Element, S>(
    criterion: &mut Criterion,
    element: &str,
    ours: fn(f32) -> T,
    theirs: fn(f32) -> S,
    pairs: [Pair<T, S>; 3],
) {
    for (name, our_function, their_function) in pairs {
        let mut group = criterion.benchmark_group(format!("{name} {element}"));
        for n in DIMENSIONS {
            let (a, b) = (elements(n, 0.7), elements(n, 1.3));
            let [our_a, our_b] = [&a, &b].map(|v| v.iter().map(|x| ours(*x)).collect::<Vec<T>>());
            let [their_a, their_b] = [&a, &b].map(|v| v.iter().map(|x| theirs(*x)).collect::<Vec<S>>());
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(BenchmarkId::new("ours", n), |bencher| {
                bencher.iter(|| our_function(black_box(&our_a), black_box(&our_b)));
            });
            group.bench_function(BenchmarkId::new("simsimd", n), |bencher| {
                bencher.iter(|| their_function(black_box(&their_a), black_box(&their_b)));
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
