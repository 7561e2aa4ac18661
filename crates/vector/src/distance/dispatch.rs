//! Which kernels run: those of the best instruction set that the processor has.

use std::sync::OnceLock;

use half::f16;

use super::CosineParts;
use crate::Element;

/// Kernels for one element type. They may be called only where the processor has the instructions.
pub struct Kernels<T> {
    pub(super) l2_squared: unsafe fn(&[T], &[T]) -> f32,
    pub(super) inner_product: unsafe fn(&[T], &[T]) -> f32,
    pub(super) l1: unsafe fn(&[T], &[T]) -> f32,
    pub(super) cosine_parts: unsafe fn(&[T], &[T]) -> CosineParts,
    pub(super) norm_squared: unsafe fn(&[T]) -> f64,
}

/// Kernels of one instruction set. Who holds a reference to one runs on a processor that has the instructions:
/// [`kernel_set`] and [`KernelSet::available`] give no other.
pub struct KernelSet {
    pub(super) name: &'static str,
    pub(crate) f32: Kernels<f32>,
    pub(crate) f16: Kernels<f16>,
    pub(super) widen: unsafe fn(&[f16], &mut [f32]),
    pub(super) narrow: unsafe fn(&[f32], &mut [f16]),
}

/// The best kernels for this processor, found at the first call.
#[inline]
pub fn kernel_set() -> &'static KernelSet {
    static BEST: OnceLock<&'static KernelSet> = OnceLock::new();
    BEST.get_or_init(best)
}

#[cold]
fn best() -> &'static KernelSet {
    KernelSet::available()[0]
}

impl KernelSet {
    /// All kernels that this processor can run, the best first.
    pub fn available() -> Vec<&'static KernelSet> {
        #[allow(unused_mut, reason = "not on every architecture there is more than the portable one")]
        let mut sets = vec![&super::portable::SET];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            if avx2 {
                sets.insert(0, &super::x86::AVX2);
            }
            if avx2 && avx512 {
                sets.insert(0, &super::x86::AVX512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            sets.insert(0, &super::neon::SET);
        }
        sets
    }

    /// Name of the instruction set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// See [`super::l2_squared`].
    #[inline]
    pub fn l2_squared<T: Element>(&'static self, a: &[T], b: &[T]) -> f32 {
        // SAFETY: the processor has the instructions, or there would be no reference to this set.
        unsafe { (T::kernels(self).l2_squared)(a, b) }
    }

    /// See [`super::inner_product`].
    #[inline]
    pub fn inner_product<T: Element>(&'static self, a: &[T], b: &[T]) -> f32 {
        // SAFETY: as above.
        unsafe { (T::kernels(self).inner_product)(a, b) }
    }

    /// See [`super::l1`].
    #[inline]
    pub fn l1<T: Element>(&'static self, a: &[T], b: &[T]) -> f32 {
        // SAFETY: as above.
        unsafe { (T::kernels(self).l1)(a, b) }
    }

    /// See [`super::cosine_parts`].
    #[inline]
    pub fn cosine_parts<T: Element>(&'static self, a: &[T], b: &[T]) -> CosineParts {
        // SAFETY: as above.
        unsafe { (T::kernels(self).cosine_parts)(a, b) }
    }

    /// Sum of the squares, accumulated in f64.
    #[inline]
    pub fn norm_squared<T: Element>(&'static self, a: &[T]) -> f64 {
        // SAFETY: as above.
        unsafe { (T::kernels(self).norm_squared)(a) }
    }

    /// Converts as many elements as both slices have.
    #[inline]
    pub fn widen(&'static self, from: &[f16], to: &mut [f32]) {
        // SAFETY: as above.
        unsafe { (self.widen)(from, to) }
    }

    /// Converts as many elements as both slices have, ties to even, numbers out of range to infinity.
    #[inline]
    pub fn narrow(&'static self, from: &[f32], to: &mut [f16]) {
        // SAFETY: as above.
        unsafe { (self.narrow)(from, to) }
    }
}
