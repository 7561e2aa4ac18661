//! The decoder on broken copies of a tiny model, and of its prepared file.

mod tiny;

use pg_answer_inference::Pool;
use pg_answer_inference::decoder::Decoder;
use tiny::{folder, message, model, options, read};

/// Loads a broken file and, if that works, lets it write: an answer or an error, never a panic.
fn survive(bytes: Vec<u8>, pool: &Pool) -> bool {
    match read(bytes, pool) {
        Err(_) => false,
        Ok(mut decoder) => {
            let prompt = decoder.plain_prompt("A client for the API\u{7802}").unwrap();
            let chat = decoder.render_chat(&[message("<|im_end|>x")]);
            drop(chat);
            let ends = decoder.generate(&prompt, &options(2), pool, &mut || Ok(()), &mut |_| Ok(()));
            ends.is_ok()
        }
    }
}

#[test]
fn broken_files_are_errors() {
    let pool = Pool::new(1).unwrap();
    let whole = std::fs::read(folder().join("tiny-qwen2-q8_0.gguf")).unwrap();
    // Where the tensors' values begin, about; what lies before decides how the file is read.
    let head = 27_859;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    assert!(survive(whole.clone(), &pool));
    for _ in 0..400 {
        let cut = next(whole.len());
        assert!(read(whole[..cut].to_vec(), &pool).is_err(), "cut at {cut}");
    }
    let (mut works, mut fails) = (0, 0);
    for round in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(4) {
            let at = match round % 4 {
                0 => next(900),
                1 => next(head),
                2 => head - 1 - next(1700),
                _ => next(bytes.len()),
            };
            let extreme = [0, 0xFF, 0x7F, 0x80, 1];
            match next(4) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = extreme[next(5)],
                2 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill(extreme[next(5)]);
                }
                _ => bytes[at] = next(256) as u8,
            }
        }
        if survive(bytes, &pool) { works += 1 } else { fails += 1 }
    }
    assert!(works > 100 && fails > 100, "{works} {fails}");
}

#[test]
fn absurd_numbers_are_errors_before_anything_is_allocated() {
    let pool = Pool::new(1).unwrap();
    let whole = std::fs::read(folder().join("tiny-qwen2-q8_0.gguf")).unwrap();
    let find = |key: &str| {
        let found = whole.windows(key.len()).position(|w| w == key.as_bytes());
        found.unwrap() + key.len() + 4
    };
    for key in [
        "qwen2.embedding_length",
        "qwen2.feed_forward_length",
        "qwen2.attention.head_count",
        "qwen2.block_count",
    ] {
        for value in [0_u32, 3, 1000, u32::MAX] {
            let mut bytes = whole.clone();
            let at = find(key);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(read(bytes, &pool).is_err(), "{key} {value}");
        }
    }
    // The number of tensors and of metadata values.
    for at in [8, 16] {
        let mut bytes = whole.clone();
        bytes[at..at + 8].fill(0xFF);
        assert!(read(bytes, &pool).is_err());
    }
}

#[test]
fn a_prepared_file_answers_as_the_model_does() {
    let pool = Pool::new(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let from = folder().join("tiny-qwen2-q8_0.gguf");
    let mut model = model(dir.path());
    model.card.files[0].bytes = std::fs::metadata(&from).unwrap().len();
    std::fs::copy(from, dir.path().join(&model.card.files[0].path)).unwrap();
    let answer = |d: &mut Decoder| {
        let prompt = d.render_chat(&[message("A client for the API\u{7802}<|im_end|>")]).unwrap();
        d.generate(&prompt, &options(20), &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
    };
    let mut own = Decoder::load(&model, &pool, &mut || Ok(())).unwrap();
    let want = answer(&mut own);
    assert!(own.memory() > 100_000);

    pg_answer_inference::prepare(&model, &pool, &mut || Ok(())).unwrap();
    // The prepared file is all that is read now.
    std::fs::write(dir.path().join(&model.card.files[0].path), "").unwrap();
    let mut mapped = Decoder::load(&model, &pool, &mut || Ok(())).unwrap();
    assert_eq!(mapped.memory(), 0);
    assert_eq!(answer(&mut mapped), want);

    // Whatever its sections hold, nothing outside of them is read.
    let path = pg_answer_inference::prepared::path(&model, pg_answer_inference::decoder::LAYOUT);
    let whole = std::fs::read(&path).unwrap();
    let start = whole.len() / 4096 * 4096 / 20;
    for byte in [0xFF, 0x7F, 0x80, 1] {
        let mut bytes = whole.clone();
        bytes[start.next_multiple_of(4096) + 4096..].fill(byte);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(mut broken) = Decoder::load(&model, &pool, &mut || Ok(())) {
            let prompt = broken.plain_prompt("A client for the API\u{7802}").unwrap();
            let _ = broken.generate(&prompt, &options(3), &pool, &mut || Ok(()), &mut |_| Ok(()));
        }
    }
    for length in [0, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Decoder::load(&model, &pool, &mut || Ok(())).is_err(), "{length}");
    }
}
