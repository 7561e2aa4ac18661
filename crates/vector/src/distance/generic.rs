//! The kernels, written once over the operations of a vector register.
//!
//! Everything here is inlined into the functions that [`kernel_set!`] makes, which alone carry the target
//! features: only there do the operations become single instructions.

use half::f16;

use super::CosineParts;
use crate::Element;

/// Operations of one instruction set on a register of f32 lanes. To call them, the processor must have it.
pub(super) trait Simd {
    /// Lanes of a register.
    const LANES: usize;
    /// A register of `LANES` f32.
    type V: Copy;

    unsafe fn zero() -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `a * b + c`, rounded once or twice.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Sum of the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// Sums of the lanes of each of three registers; together they may cost less than one by one.
    #[inline(always)]
    unsafe fn sum3([a, b, c]: [Self::V; 3]) -> [f32; 3] {
        // SAFETY: the caller's promise.
        unsafe { [Self::sum(a), Self::sum(b), Self::sum(c)] }
    }
    /// Reads `LANES` elements, aligned to their own size only.
    unsafe fn load_f32(p: *const f32) -> Self::V;
    /// Reads `n` elements, fewer than `LANES`; the other lanes are zero.
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Self::V;
    /// As `load_f32`.
    unsafe fn load_f16(p: *const f16) -> Self::V;
    /// As `load_f32_part`.
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Self::V;
    /// Writes `LANES` elements.
    unsafe fn store_f32(p: *mut f32, a: Self::V);
    /// Writes `LANES` elements, rounded to the nearest, ties to even.
    unsafe fn store_f16(p: *mut f16, a: Self::V);
}

/// Reads elements of either type into a register.
pub(super) trait Load: Element {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    unsafe fn load_part<S: Simd>(p: *const Self, n: usize) -> S::V;
}

impl Load for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f32(p) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f32_part(p, n) }
    }
}

impl Load for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(p) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16_part(p, n) }
    }
}

/// A sum over pairs of elements to which a pair of zeros adds nothing.
pub(super) trait Metric {
    /// Partial sums.
    type Sums<S: Simd>: Copy;
    /// Result.
    type Output;

    unsafe fn zero<S: Simd>() -> Self::Sums<S>;
    unsafe fn step<S: Simd>(sums: Self::Sums<S>, a: S::V, b: S::V) -> Self::Sums<S>;
    unsafe fn join<S: Simd>(left: Self::Sums<S>, right: Self::Sums<S>) -> Self::Sums<S>;
    unsafe fn finish<S: Simd>(sums: Self::Sums<S>) -> Self::Output;
}

/// Metrics with one partial sum per lane.
macro_rules! single_sum {
    ($(#[$doc:meta])* $name:ident, $s:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Metric for $name {
            type Sums<S: Simd> = S::V;
            type Output = f32;

            #[inline(always)]
            unsafe fn zero<S: Simd>() -> S::V {
                // SAFETY: the caller's promise.
                unsafe { S::zero() }
            }

            #[inline(always)]
            unsafe fn step<$s: Simd>($sum: $s::V, $a: $s::V, $b: $s::V) -> $s::V {
                // SAFETY: the caller's promise.
                unsafe { $step }
            }

            #[inline(always)]
            unsafe fn join<S: Simd>(left: S::V, right: S::V) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { S::add(left, right) }
            }

            #[inline(always)]
            unsafe fn finish<S: Simd>(sum: S::V) -> f32 {
                // SAFETY: the caller's promise.
                unsafe { S::sum(sum) }
            }
        }
    };
}

single_sum! {
    /// Sum of the squared differences.
    L2Squared, S, |sum, a, b| {
        let difference = S::sub(a, b);
        S::mul_add(difference, difference, sum)
    }
}
single_sum! {
    /// Sum of the products.
    InnerProduct, S, |sum, a, b| S::mul_add(a, b, sum)
}
single_sum! {
    /// Sum of the absolute differences.
    L1, S, |sum, a, b| S::add(sum, S::abs(S::sub(a, b)))
}

/// The three sums of the cosine.
pub(super) struct Cosine;

impl Metric for Cosine {
    type Sums<S: Simd> = (S::V, S::V, S::V);
    type Output = CosineParts;

    #[inline(always)]
    unsafe fn zero<S: Simd>() -> Self::Sums<S> {
        // SAFETY: the caller's promise.
        unsafe { (S::zero(), S::zero(), S::zero()) }
    }

    #[inline(always)]
    unsafe fn step<S: Simd>((dot, aa, bb): Self::Sums<S>, a: S::V, b: S::V) -> Self::Sums<S> {
        // SAFETY: the caller's promise.
        unsafe { (S::mul_add(a, b, dot), S::mul_add(a, a, aa), S::mul_add(b, b, bb)) }
    }

    #[inline(always)]
    unsafe fn join<S: Simd>(left: Self::Sums<S>, right: Self::Sums<S>) -> Self::Sums<S> {
        // SAFETY: the caller's promise.
        unsafe { (S::add(left.0, right.0), S::add(left.1, right.1), S::add(left.2, right.2)) }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>((dot, aa, bb): Self::Sums<S>) -> CosineParts {
        // SAFETY: the caller's promise.
        let [dot, norm_a_squared, norm_b_squared] = unsafe { S::sum3([dot, aa, bb]) };
        CosineParts { dot, norm_a_squared, norm_b_squared }
    }
}

/// Sums `M` over all pairs of elements, `UNROLL` registers at a time in as many partial sums, because one sum
/// alone would wait for the latency of each addition.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, M: Metric, T: Load, const UNROLL: usize>(
    a: &[T],
    b: &[T],
) -> M::Output {
    let n = a.len().min(b.len());
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: all reads begin at i < n and end at n at the latest; the caller vouches for the instructions.
    unsafe {
        let mut sums = [M::zero::<S>(); UNROLL];
        let mut i = 0;
        while n - i >= UNROLL * S::LANES {
            for (u, sum) in sums.iter_mut().enumerate() {
                let at = i + u * S::LANES;
                *sum = M::step::<S>(*sum, T::load::<S>(a.add(at)), T::load::<S>(b.add(at)));
            }
            i += UNROLL * S::LANES;
        }
        for sum in &mut sums[1..] {
            if n - i < S::LANES {
                break;
            }
            *sum = M::step::<S>(*sum, T::load::<S>(a.add(i)), T::load::<S>(b.add(i)));
            i += S::LANES;
        }
        if i < n {
            let part = n - i;
            let (x, y) = (T::load_part::<S>(a.add(i), part), T::load_part::<S>(b.add(i), part));
            sums[0] = M::step::<S>(sums[0], x, y);
        }
        let mut width = UNROLL;
        while width > 1 {
            width /= 2;
            for u in 0..width {
                sums[u] = M::join::<S>(sums[u], sums[u + width]);
            }
        }
        M::finish::<S>(sums[0])
    }
}

/// Sum of the squares in f64; plain code that the compiler turns into the caller's vector instructions.
#[inline(always)]
pub(super) fn norm_squared<T: Element>(a: &[T]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0f64; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            let x = f64::from(x.to_f32());
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        let x = f64::from(x.to_f32());
        *sum += x * x;
    }
    sums.iter().sum()
}

/// Converts as many elements as both slices have.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn widen<S: Simd>(from: &[f16], to: &mut [f32]) {
    let whole = from.len().min(to.len()) / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: i + LANES <= whole, within both slices; the caller vouches for the instructions.
        unsafe { S::store_f32(to.as_mut_ptr().add(i), S::load_f16(from.as_ptr().add(i))) };
    }
    for (to, from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = crate::half::to_f32(*from);
    }
}

/// Converts as many elements as both slices have, ties to even, numbers out of range to infinity.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn narrow<S: Simd>(from: &[f32], to: &mut [f16]) {
    let whole = from.len().min(to.len()) / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: i + LANES <= whole, within both slices; the caller vouches for the instructions.
        unsafe { S::store_f16(to.as_mut_ptr().add(i), S::load_f32(from.as_ptr().add(i))) };
    }
    for (to, from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = crate::half::from_f32_unchecked(*from);
    }
}

/// Defines a `KernelSet` whose functions are compiled with the given target features.
macro_rules! kernel_set {
    ($(#[$attribute:meta])* $vis:vis static $set:ident = $name:literal, $simd:ty, $features:meta) => {
        $(#[$attribute])*
        $vis static $set: $crate::distance::dispatch::KernelSet = {
            use half::f16;
            use $crate::distance::CosineParts;
            use $crate::distance::dispatch::{KernelSet, Kernels};
            use $crate::distance::generic::{self, Cosine, InnerProduct, L1, L2Squared};

            $crate::distance::generic::kernel_set!(@sum l2_f32, L2Squared, f32, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum l2_f16, L2Squared, f16, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum dot_f32, InnerProduct, f32, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum dot_f16, InnerProduct, f16, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum l1_f32, L1, f32, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum l1_f16, L1, f16, f32, 4, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum cos_f32, Cosine, f32, CosineParts, 2, $simd, $features);
            $crate::distance::generic::kernel_set!(@sum cos_f16, Cosine, f16, CosineParts, 2, $simd, $features);

            #[$features]
            unsafe fn norm_f32(a: &[f32]) -> f64 {
                generic::norm_squared(a)
            }
            #[$features]
            unsafe fn norm_f16(a: &[f16]) -> f64 {
                generic::norm_squared(a)
            }
            #[$features]
            unsafe fn widen(from: &[f16], to: &mut [f32]) {
                // SAFETY: the caller vouches for the instructions.
                unsafe { generic::widen::<$simd>(from, to) }
            }
            #[$features]
            unsafe fn narrow(from: &[f32], to: &mut [f16]) {
                // SAFETY: the caller vouches for the instructions.
                unsafe { generic::narrow::<$simd>(from, to) }
            }

            KernelSet {
                name: $name,
                f32: Kernels {
                    l2_squared: l2_f32,
                    inner_product: dot_f32,
                    l1: l1_f32,
                    cosine_parts: cos_f32,
                    norm_squared: norm_f32,
                },
                f16: Kernels {
                    l2_squared: l2_f16,
                    inner_product: dot_f16,
                    l1: l1_f16,
                    cosine_parts: cos_f16,
                    norm_squared: norm_f16,
                },
                widen,
                narrow,
            }
        };
    };
    (@sum $fn:ident, $metric:ident, $element:ty, $output:ty, $unroll:literal, $simd:ty, $features:meta) => {
        #[$features]
        unsafe fn $fn(a: &[$element], b: &[$element]) -> $output {
            // SAFETY: the caller vouches for the instructions.
            unsafe { generic::accumulate::<$simd, $metric, $element, $unroll>(a, b) }
        }
    };
}
pub(super) use kernel_set;
