//! The least of many numbers.

use crate::kernels::LANES;

/// The least number; NaN does not count.
pub(crate) fn minimum(numbers: &[f32]) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    let (groups, rest) = numbers.as_chunks::<LANES>();
    for group in groups {
        for (least, number) in least.iter_mut().zip(group) {
            *least = if *number < *least { *number } else { *least };
        }
    }
    least.iter().chain(rest).copied().fold(f32::INFINITY, f32::min)
}

/// The `n` least numbers with their places, in no order; all if there are fewer. NaN is never among them.
pub(crate) fn least(numbers: &[f32], n: usize) -> Vec<(f32, u32)> {
    // Room for what is kept, and for a group beyond it.
    let mut least = vec![(0.0, 0); 2 * n.min(numbers.len()) + 2 * LANES];
    let (mut count, mut threshold) = (0, f32::INFINITY);
    for (group, numbers) in numbers.chunks(LANES).enumerate() {
        // The rest of them is told from the least with vector instructions.
        if numbers.iter().map(|number| u32::from(*number <= threshold)).sum::<u32>() == 0 {
            continue;
        }
        // No branch, which the processor could not foresee.
        for (i, number) in numbers.iter().enumerate() {
            least[count] = (*number, (group * LANES + i) as u32);
            count += usize::from(*number <= threshold);
        }
        if count > 2 * n {
            threshold = keep(&mut least[..count], n);
            count = n;
        }
    }
    least.truncate(count);
    if count > n {
        keep(&mut least, n);
        least.truncate(n);
    }
    least
}

/// Places of the `n` least numbers, from the least on.
pub(crate) fn in_order(numbers: &[f32], n: usize) -> Vec<u32> {
    let mut least = least(numbers, n);
    least.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    least.into_iter().map(|(_, place)| place).collect()
}

/// Puts the `n` least of more first, and returns the largest of them.
fn keep(numbers: &mut [(f32, u32)], n: usize) -> f32 {
    let Some(last) = n.checked_sub(1) else { return f32::NEG_INFINITY };
    numbers.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0)).1.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_are_found(mut numbers in prop::collection::vec(-5.0f32..5.0, 0..300), n in 0usize..40) {
            numbers.iter_mut().step_by(7).for_each(|number| *number = f32::NAN);
            let mut sorted: Vec<f32> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            prop_assert_eq!(minimum(&numbers), sorted.first().copied().unwrap_or(f32::INFINITY));
            sorted.truncate(n);
            let found: Vec<f32> = in_order(&numbers, n).into_iter().map(|place| numbers[place as usize]).collect();
            prop_assert_eq!(found, sorted);
        }
    }
}
