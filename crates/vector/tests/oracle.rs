//! Every kernel that this processor can run, against the definitions in f64 and against the crate `half`.

use std::fmt::Debug;

use half::f16;
use pg_answer_vector::distance::{self, CosineParts, KernelSet, scalar};
use pg_answer_vector::{Element, Error, Kind, half as convert};

/// Slices begin at each of these elements of their buffer: no kernel may count on more than the alignment of one.
const OFFSETS: std::ops::Range<usize> = 0..8;

fn dimensions() -> impl Iterator<Item = usize> {
    (0..=70).chain([384, 768, 1024, 1536, 4096, 16_000])
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform from −1 to 1, in steps of 2⁻²³.
    fn real(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// An integer from −7 to 7, small enough that the sums are exact in f32, whatever their order.
    fn integer(&mut self) -> f32 {
        (self.next() % 15) as f32 - 7.0
    }
}

/// `n` elements from element `offset` of a buffer on, with NaN before and after them: a kernel that takes in one
/// element too many gives NaN.
struct Padded<T> {
    buffer: Vec<T>,
    offset: usize,
    n: usize,
}

impl<T: Element> Padded<T> {
    fn new(n: usize, offset: usize, mut element: impl FnMut() -> f32) -> Self {
        let nan = T::from_f32_unchecked(f32::NAN);
        let mut buffer = vec![nan; offset];
        buffer.extend((0..n).map(|_| T::from_f32_unchecked(element())));
        buffer.resize(offset + n + 64, nan);
        Self { buffer, offset, n }
    }

    fn get(&self) -> &[T] {
        &self.buffer[self.offset..self.offset + self.n]
    }
}

/// Calls `check` with all kernel sets and pairs of vectors of all dimensions at all pairs of offsets that differ.
fn with_pairs<T: Element>(element: fn(&mut Random) -> f32, check: impl Fn(&'static KernelSet, &[T], &[T])) {
    let mut random = Random(2);
    for n in dimensions() {
        for offset in OFFSETS {
            let a = Padded::<T>::new(n, offset, || element(&mut random));
            let b = Padded::<T>::new(n, (offset * 3 + 1) % OFFSETS.end, || element(&mut random));
            for set in KernelSet::available() {
                check(set, a.get(), b.get());
            }
        }
    }
}

/// Checks `actual` against `expected`, a sum of `n` terms whose sizes add up to `sizes`.
#[track_caller]
fn assert_close(set: &KernelSet, what: &str, n: usize, actual: f32, expected: f64, sizes: f64) {
    // The bound of recursive summation (Higham: Accuracy and Stability of Numerical Algorithms, 4.2) with at least
    // 16 partial sums, and a few more roundings for the term itself and to add the partial sums up.
    let roundings = (n / 16 + 8) as f64;
    let tolerance = roundings * f64::from(f32::EPSILON) / 2.0 * sizes;
    let error = (f64::from(actual) - expected).abs();
    assert!(error <= tolerance, "{} {what} n={n}: {actual} for {expected}", set.name());
}

fn sums_are_close<T: Element>() {
    with_pairs::<T>(Random::real, |set, a, b| {
        let n = a.len();
        let sizes: f64 =
            a.iter().zip(b).map(|(x, y)| f64::from(x.to_f32()).abs() * f64::from(y.to_f32()).abs()).sum();
        let (dot, l1, l2) = (scalar::inner_product(a, b), scalar::l1(a, b), scalar::l2_squared(a, b));
        let (aa, bb) = (scalar::norm_squared(a), scalar::norm_squared(b));

        assert_close(set, "l2_squared", n, set.l2_squared(a, b), l2, l2);
        assert_close(set, "l1", n, set.l1(a, b), l1, l1);
        assert_close(set, "inner_product", n, set.inner_product(a, b), dot, sizes);
        let parts = set.cosine_parts(a, b);
        assert_close(set, "cosine: dot", n, parts.dot, dot, sizes);
        assert_close(set, "cosine: left norm", n, parts.norm_a_squared, aa, aa);
        assert_close(set, "cosine: right norm", n, parts.norm_b_squared, bb, bb);
        if n > 0 {
            let cosine = 1.0 - dot / (aa * bb).sqrt();
            assert!((parts.distance() - cosine).abs() < 1e-5, "{} cosine n={n}", set.name());
        }
        let norm = set.norm_squared(a);
        assert!((norm - aa).abs() <= 1e-12 * aa, "{} norm n={n}: {norm} for {aa}", set.name());
    });
}

#[test]
fn sums_of_f32_are_close() {
    sums_are_close::<f32>();
}

#[test]
fn sums_of_f16_are_close() {
    sums_are_close::<f16>();
}

/// Sums of small integers are exact: not one element may be missed or counted twice.
fn sums_of_integers_are_exact<T: Element>() {
    with_pairs::<T>(Random::integer, |set, a, b| {
        let context = format!("{} n={}", set.name(), a.len());
        let (dot, aa, bb) = (scalar::inner_product(a, b), scalar::norm_squared(a), scalar::norm_squared(b));
        assert_eq!(f64::from(set.l2_squared(a, b)), scalar::l2_squared(a, b), "{context}");
        assert_eq!(f64::from(set.l1(a, b)), scalar::l1(a, b), "{context}");
        assert_eq!(f64::from(set.inner_product(a, b)), dot, "{context}");
        assert_eq!(set.norm_squared(a), aa, "{context}");
        let parts = CosineParts { dot: dot as f32, norm_a_squared: aa as f32, norm_b_squared: bb as f32 };
        assert_eq!(set.cosine_parts(a, b), parts, "{context}");
    });
}

#[test]
fn sums_of_integers_in_f32_are_exact() {
    sums_of_integers_are_exact::<f32>();
}

#[test]
fn sums_of_integers_in_f16_are_exact() {
    sums_of_integers_are_exact::<f16>();
}

#[test]
fn the_longer_vector_is_cut() {
    let mut random = Random(3);
    for n in 0..70 {
        let short = Padded::<f32>::new(n, 1, || random.integer());
        let mut long = short.get().to_vec();
        long.resize(n + 40, 1.0);
        for set in KernelSet::available() {
            for (a, b) in [(short.get(), &long[..]), (&long[..], short.get())] {
                let square = scalar::norm_squared(short.get()) as f32;
                assert_eq!(set.l2_squared(a, b), 0.0);
                assert_eq!(set.l1(a, b), 0.0);
                assert_eq!(set.inner_product(a, b), square);
                let parts = CosineParts { dot: square, norm_a_squared: square, norm_b_squared: square };
                assert_eq!(set.cosine_parts(a, b), parts);
            }
        }
    }
}

#[test]
fn the_best_set_is_the_one_in_use() {
    let (a, b) = ([1.0, 2.0, 3.0f32], [3.0, 2.0, -1.0f32]);
    let best = distance::kernel_set();
    assert!(std::ptr::eq(best, KernelSet::available()[0]));
    assert_eq!(distance::l2_squared(&a, &b), 20.0);
    assert_eq!(distance::l2_distance(&a, &b), 20f64.sqrt());
    assert_eq!(distance::inner_product(&a, &b), 4.0);
    assert_eq!(distance::l1(&a, &b), 6.0);
    assert_eq!(distance::l2_norm(&a), 14f64.sqrt());
    assert_eq!(distance::cosine_distance(&a, &b), 1.0 - 4.0 / 14.0);
    assert!(distance::cosine_distance(&a, &[0.0; 3]).is_nan());
}

/// Large and tiny numbers: f64 takes the squares of all finite f32.
#[test]
fn norm_neither_overflows_nor_vanishes() {
    for set in KernelSet::available() {
        for n in 1..70 {
            for size in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)] {
                let expected = (n as f64).sqrt() * f64::from(size);
                let norm = set.norm_squared(&vec![-size; n]).sqrt();
                assert!((norm / expected - 1.0).abs() < 1e-14, "{} n={n}: {norm} for {expected}", set.name());
            }
        }
    }
}

fn all_halves() -> Vec<f16> {
    (0..=u16::MAX).map(f16::from_bits).collect()
}

/// Equal, and of the same sign. The bits of a NaN may differ, because hardware makes a signalling NaN quiet.
#[track_caller]
fn assert_same<T: Element + Debug>(actual: &[T], expected: &[T], context: &str) {
    assert_eq!(actual.len(), expected.len(), "{context}");
    for (i, (x, y)) in actual.iter().zip(expected).enumerate() {
        let same = if x.is_nan() || y.is_nan() { x.is_nan() == y.is_nan() } else { x == y };
        let signs = x.to_f32().is_sign_negative() == y.to_f32().is_sign_negative();
        assert!(same && signs, "{context} element {i}: {x:?} for {y:?}");
    }
}

#[test]
fn every_half_is_widened() {
    let halves = all_halves();
    let expected: Vec<f32> = halves.iter().map(|h| h.to_f32_const()).collect();
    let one_by_one: Vec<f32> = halves.iter().map(|h| convert::to_f32(*h)).collect();
    assert_same(&one_by_one, &expected, "one by one");
    for set in KernelSet::available() {
        let mut actual = vec![0.0; halves.len()];
        set.widen(&halves, &mut actual);
        assert_same(&actual, &expected, set.name());
    }
    let mut actual = vec![1.0; 3];
    convert::widen(&halves, &mut actual);
    assert_same(&actual, &expected, "best");
}

/// All halves, and around each midpoint between two of them the midpoint itself and its neighbours, which decide
/// whether ties go to even; beyond the largest half too.
fn numbers_to_narrow() -> Vec<f32> {
    let mut numbers: Vec<f32> = all_halves().iter().map(|h| h.to_f32_const()).collect();
    for bits in 0..0x7c00u16 {
        let low = f16::from_bits(bits).to_f32_const();
        let high = if bits == 0x7bff { 65536.0 } else { f16::from_bits(bits + 1).to_f32_const() };
        let middle = (low + high) / 2.0;
        numbers.extend([middle.next_down(), middle, middle.next_up()]);
        numbers.extend([-middle.next_down(), -middle, -middle.next_up()]);
    }
    numbers.extend([f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1), 1e5, -1e5]);
    let mut random = Random(4);
    numbers.extend((0..100_000).map(|_| f32::from_bits(random.next() as u32)));
    numbers
}

#[test]
fn narrowing_rounds_ties_to_even() {
    let numbers = numbers_to_narrow();
    let expected: Vec<f16> = numbers.iter().map(|x| f16::from_f32_const(*x)).collect();
    let one_by_one: Vec<f16> = numbers.iter().map(|x| convert::from_f32_unchecked(*x)).collect();
    assert_same(&one_by_one, &expected, "one by one");
    for set in KernelSet::available() {
        let mut actual = vec![f16::ZERO; numbers.len()];
        set.narrow(&numbers, &mut actual);
        assert_same(&actual, &expected, set.name());
    }
    // Half-way between two halves, one of whose last bits is zero.
    for (number, nearest) in [
        (2049.0, 2048.0),
        (2051.0, 2052.0),
        (65519.996, 65504.0),
        (65520.0, f32::INFINITY),
        (2f32.powi(-25), 0.0),
    ] {
        assert_eq!(convert::from_f32_unchecked(number).to_f32_const(), nearest);
    }
}

#[test]
fn halves_survive_narrowing() {
    let halves = all_halves();
    let (mut wide, mut back) = (Vec::new(), Vec::new());
    convert::widen(&halves, &mut wide);
    convert::narrow(&wide, &mut back).unwrap();
    assert_same(&back, &halves, "narrow after widen");
}

#[test]
fn conversions_keep_to_their_slices() {
    let mut random = Random(5);
    for n in 0..=70 {
        for offset in OFFSETS {
            let halves = Padded::<f16>::new(n, offset, || 100.0 * random.real());
            let numbers = Padded::<f32>::new(n, offset, || 100.0 * random.real());
            let to = (offset * 3 + 1) % OFFSETS.end;
            for set in KernelSet::available() {
                let context = format!("{} n={n} offset={offset}", set.name());
                let mut expected = vec![7.0f32; 160];
                let mut actual = expected.clone();
                for (x, h) in expected[to..].iter_mut().zip(halves.get()) {
                    *x = h.to_f32_const();
                }
                set.widen(halves.get(), &mut actual[to..]);
                assert_same(&actual, &expected, &context);
                actual.fill(7.0);
                // Now the destination is what ends it.
                set.widen(&halves.buffer[offset..], &mut actual[to..to + n]);
                assert_same(&actual, &expected, &context);

                let mut expected = vec![f16::ONE; 160];
                let mut actual = expected.clone();
                for (h, x) in expected[to..].iter_mut().zip(numbers.get()) {
                    *h = f16::from_f32_const(*x);
                }
                set.narrow(numbers.get(), &mut actual[to..]);
                assert_same(&actual, &expected, &context);
                actual.fill(f16::ONE);
                set.narrow(&numbers.buffer[offset..], &mut actual[to..to + n]);
                assert_same(&actual, &expected, &context);
            }
        }
    }
}

#[test]
fn narrowing_names_the_first_number_out_of_range() {
    for n in 1..40 {
        for at in 0..n {
            let mut numbers = vec![f32::INFINITY; n];
            numbers[at] = 65520.0;
            numbers[n - 1] = if at == n - 1 { 65520.0 } else { -1e6 };
            let expected = Error::OutOfRange { kind: Kind::Halfvec, value: "65520".into() };
            assert_eq!(convert::narrow(&numbers, &mut Vec::new()), Err(expected));
        }
    }
    let mut out = Vec::new();
    convert::narrow(&[f32::INFINITY, f32::NAN, 65519.0], &mut out).unwrap();
    assert_eq!(out[0], f16::INFINITY);
    assert!(out[1].is_nan());
    assert_eq!(out[2], f16::MAX);
}
