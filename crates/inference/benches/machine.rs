//! What the machine can do at most, for one and two threads: reading memory, 8-bit and 16-bit products. The rates of
//! the decoder are told as shares of these.

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::sync::Barrier;
    use std::time::Instant;

    const BYTES: usize = 1 << 30;
    const ROUNDS: usize = 5;
    const STEPS: usize = 20_000_000;

    /// # Safety
    /// The processor has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    unsafe fn read(bytes: &[u8]) -> i64 {
        let mut sums = [_mm512_setzero_si512(); 8];
        for chunk in bytes.as_chunks::<512>().0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 64 bytes of a chunk of 512.
                let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(i * 64).cast()) };
                *sum = _mm512_xor_si512(*sum, x);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi64(sum)).fold(0, i64::wrapping_add)
    }

    /// Twelve independent chains of products, `STEPS` rounds of them.
    ///
    /// # Safety
    /// The processor has AVX-512 VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn bytes_products() -> i32 {
        let (a, b) = (black_box(_mm512_set1_epi32(0x0102_0304)), black_box(_mm512_set1_epi32(0x0101_0101)));
        let mut sums = [a; 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
    }

    /// # Safety
    /// The processor has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn half_products() -> f32 {
        let a = black_box(_mm512_set1_ps(1.0));
        // SAFETY: both are 64 bytes without invalid values.
        let b: __m512bh = unsafe { std::mem::transmute(a) };
        let mut sums = [a; 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, b, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// # Safety
    /// The processor has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    unsafe fn float_products() -> f32 {
        let a = black_box(_mm512_set1_ps(1.0));
        let mut sums = [a; 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, a, *sum);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// The least seconds that `threads` threads take for `work(thread)`, all at once.
    fn seconds(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
        (0..ROUNDS)
            .map(|_| {
                let barrier = Barrier::new(threads + 1);
                std::thread::scope(|scope| {
                    for thread in 0..threads {
                        let (work, barrier) = (&work, &barrier);
                        scope.spawn(move || {
                            barrier.wait();
                            work(thread);
                        });
                    }
                    barrier.wait();
                    Instant::now()
                })
                .elapsed()
                .as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min)
    }

    pub fn main() {
        let has = is_x86_feature_detected!("avx512f");
        let (vnni, bf16) = (is_x86_feature_detected!("avx512vnni"), is_x86_feature_detected!("avx512bf16"));
        let mut memory = vec![1_u8; BYTES];
        memory.iter_mut().step_by(4096).for_each(|x| *x = black_box(2));
        println!(
            "| threads | memory, GB/s | 8-bit products, GOP/s | bfloat16, GFLOP/s | f32, GFLOP/s |\n| --- | --- | --- | --- | --- |"
        );
        for threads in [1, 2] {
            let rate = |has: bool, each: usize, work: &(dyn Fn(usize) + Sync)| {
                if has {
                    format!("{:.1}", each as f64 / seconds(threads, work) / 1e9)
                } else {
                    "none".to_owned()
                }
            };
            let each = BYTES / threads;
            let cells = [
                rate(has, BYTES, &|i| {
                    // SAFETY: `rate` asks whether the processor has the instructions.
                    black_box(unsafe { read(&memory[i * each..][..each]) });
                }),
                rate(vnni, threads * STEPS * 12 * 128, &|_| {
                    // SAFETY: `rate` asks whether the processor has the instructions.
                    black_box(unsafe { bytes_products() });
                }),
                rate(bf16, threads * STEPS * 12 * 64, &|_| {
                    // SAFETY: `rate` asks whether the processor has the instructions.
                    black_box(unsafe { half_products() });
                }),
                rate(has, threads * STEPS * 12 * 32, &|_| {
                    // SAFETY: `rate` asks whether the processor has the instructions.
                    black_box(unsafe { float_products() });
                }),
            ];
            println!("| {threads} | {} |", cells.join(" | "));
        }
    }
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    x86::main();
    #[cfg(not(target_arch = "x86_64"))]
    println!("measured on x86-64 only");
}
