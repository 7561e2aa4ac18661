//! The decoder on a tiny random model whose logits are known.

mod tiny;

use std::path::Path;

use pg_answer_inference::constraint::Constraint;
use pg_answer_inference::decoder::{Decoder, GenerateOptions, Message, Prompt, Sampling, StopReason};
use pg_answer_inference::language::Continuation;
use pg_answer_inference::{Error, LanguageModel, Pool, Result};
use tiny::{Reference, load, message, model, options, prompt, reference};

#[test]
fn float_weights_give_the_reference_logits() {
    let Reference { files, chat_template_check, .. } = reference();
    for threads in [1, 2] {
        let pool = Pool::new(threads).unwrap();
        let mut decoder = load(&files.f32.file, &pool);
        assert_eq!(decoder.render_chat(&[message("Hello")]).unwrap().text, chat_template_check.prompt);
        for case in &files.f32.cases {
            assert_eq!(decoder.plain_prompt(&case.text).unwrap().ids, case.input_ids);
            let logits = decoder.prefill(&case.input_ids, &pool, &mut || Ok(())).unwrap();
            for (got, want) in logits.iter().zip(&case.last_logits) {
                assert!((got - want).abs() < 3e-4, "{}: {got} {want}", case.text);
            }
            let answer = decoder
                .generate(&prompt(&case.input_ids), &options(16), &pool, &mut || Ok(()), &mut |_| Ok(()))
                .unwrap();
            assert_eq!(answer.ids, case.greedy_ids, "{}", case.text);
        }
    }
}

#[test]
fn quantised_weights_come_close_to_the_reference_logits() {
    let pool = Pool::new(1).unwrap();
    let model = reference().files.q8_0;
    let mut decoder = load(&model.file, &pool);
    for case in &model.cases {
        let logits = decoder.prefill(&case.input_ids, &pool, &mut || Ok(())).unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let want = &case.last_logits;
        let cosine = dot(&logits, want) / (dot(&logits, &logits) * dot(want, want)).sqrt();
        assert!(cosine >= 0.995, "{}: {cosine}", case.text);
    }
}

/// A single answer is read together with its prompt, several are read after it.
#[test]
fn an_answer_weighs_the_same_alone_and_beside_others() {
    let pool = Pool::new(2).unwrap();
    let mut decoder = load("tiny-qwen2-f32.gguf", &pool);
    let prompt = decoder.plain_prompt("The keeper climbs the stairs.").unwrap();
    let mut weigh = |answers: &[&str]| decoder.weigh(&prompt, answers, &pool, &mut || Ok(())).unwrap();
    let both = weigh(&["He lights the lamp.", "No."]);
    for (answer, weight) in ["He lights the lamp.", "No."].into_iter().zip(both) {
        let alone = weigh(&[answer])[0];
        assert!((alone - weight).abs() < 1e-3, "{answer}: {alone}, {weight}");
        assert!(alone < 0.0);
    }
    // Of a long one its beginning counts, of 64 tokens.
    let long = "lamp ".repeat(200);
    let (alone, longer) = (weigh(&[&long])[0], weigh(&[&long.repeat(2)])[0]);
    assert!(alone < 0.0 && alone == longer, "{alone}, {longer}");
    assert!(decoder.weigh(&prompt, &[&long, "No."], &pool, &mut || Ok(())).is_err());
}

#[test]
fn results_depend_neither_on_threads_nor_on_how_tokens_go_together() {
    let (one, two) = (Pool::new(1).unwrap(), Pool::new(2).unwrap());
    for file in ["tiny-qwen2-f32.gguf", "tiny-qwen2-q8_0.gguf"] {
        let (mut a, mut b) = (load(file, &one), load(file, &two));
        let ids: Vec<u32> = (0..200).map(|i| (i * 37 + 11) % 990).collect();
        let whole = a.prefill(&ids, &one, &mut || Ok(())).unwrap();
        assert_eq!(whole, b.prefill(&ids, &two, &mut || Ok(())).unwrap(), "{file}");
        // Token by token: the last step sees the same prefix.
        let scored = b.score(&ids[..120], &ids[120..], 1, &two, &mut || Ok(())).unwrap();
        let last = a.score(&ids[..199], &ids[199..], 1, &one, &mut || Ok(())).unwrap();
        assert_eq!(scored.last(), last.last(), "{file}");
        let hot = GenerateOptions {
            sampling: Sampling { temperature: 0.9, top_p: 0.95, seed: 5, ..Sampling::default() },
            ..options(20)
        };
        let run = |d: &mut Decoder, pool: &Pool| {
            d.generate(&prompt(&ids[..9]), &hot, pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
        };
        assert_eq!(run(&mut a, &one), run(&mut b, &two), "{file}");
    }
}

#[test]
fn drafts_change_the_passes_and_not_the_answer() {
    let pool = Pool::new(2).unwrap();
    for file in ["tiny-qwen2-f32.gguf", "tiny-qwen2-q8_0.gguf"] {
        let mut decoder = load(file, &pool);
        let (mut tokens, mut passes) = (0, 0);
        for start in 0..12 {
            let ids: Vec<u32> = (0..60).map(|i| (start * 71 + i % 15 * 37) % 990).collect();
            for temperature in [0.0, 0.4] {
                let mut run = |draft| {
                    let sampling = Sampling { temperature, seed: 3, ..Sampling::default() };
                    let options = GenerateOptions { draft, sampling, ..options(40) };
                    decoder.forget();
                    decoder.generate(&prompt(&ids), &options, &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
                };
                let (plain, drafted) = (run(false), run(true));
                assert_eq!((&drafted.ids, drafted.stop), (&plain.ids, plain.stop), "{file} {start}");
                assert_eq!(drafted.logprobs, plain.logprobs, "{file} {start}");
                assert_eq!(plain.passes, plain.ids.len() - 1);
                tokens += plain.passes;
                passes += drafted.passes;
            }
        }
        assert!(passes < tokens, "{file}: {passes} passes for {tokens} tokens");
    }
}

#[test]
fn tokens_are_those_of_the_whole_head() {
    let pool = Pool::new(2).unwrap();
    let mut decoder = load("tiny-qwen2-q8_0.gguf", &pool);
    let drawn = Sampling { temperature: 0.9, seed: 11, ..Sampling::default() };
    let ways = [
        Sampling::default(),
        Sampling { top_k: 1, ..drawn.clone() },
        Sampling { top_k: 20, top_p: 0.9, ..drawn.clone() },
        Sampling { min_p: 0.2, ..drawn.clone() },
        Sampling { min_p: 0.01, top_k: 200, ..drawn },
    ];
    for start in 0..10 {
        let prompt = prompt(&(0..9).map(|i| (start * 71 + i * 37) % 990).collect::<Vec<u32>>());
        let mut run = |sampling: &Sampling, mut constraint: Option<OneInSeven>, draft| {
            let options = GenerateOptions { sampling: sampling.clone(), draft, ..options(60) };
            let constraint = constraint.as_mut().map(|c| c as _);
            let (check, ignore) = (&mut || Ok(()), &mut |_: &str| Ok(()));
            decoder.generate_within(&prompt, &options, constraint, &pool, check, ignore).unwrap()
        };
        for (way, constraint) in ways.iter().flat_map(|way| [(way, None), (way, Some(OneInSeven(start % 7)))])
        {
            // With a penalty all logits are wanted; this one changes none.
            let all = Sampling { repetition_penalty: 1.0 + f64::EPSILON, ..way.clone() };
            let whole = run(&all, constraint, false);
            for draft in [false, true] {
                let got = run(way, constraint, draft);
                assert_eq!((&got.ids, got.stop), (&whole.ids, whole.stop), "{start} {way:?} {constraint:?}");
                for (a, b) in got.logprobs.iter().zip(&whole.logprobs) {
                    assert!((a - b).abs() < 0.02, "{start} {way:?} {constraint:?}: {a} {b}");
                }
            }
        }
    }
}

/// Lets every seventh token come; which, the one before says.
#[derive(Debug, Clone, Copy)]
struct OneInSeven(u32);

impl Constraint for OneInSeven {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let others = logits.iter_mut().zip(0..).filter(|(_, id)| id % 7 != self.0);
        others.for_each(|(logit, _)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        assert_eq!(id % 7, self.0);
        self.0 = (id / 7) % 7;
        Ok(())
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn forced(&mut self) -> String {
        String::new()
    }
}

#[test]
fn what_was_read_is_not_read_again() {
    let pool = Pool::new(1).unwrap();
    let mut decoder = load("tiny-qwen2-q8_0.gguf", &pool);
    let mut other = load("tiny-qwen2-q8_0.gguf", &pool);
    let answer = |d: &mut Decoder, ids: &[u32]| {
        d.generate(&prompt(ids), &options(12), &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
    };
    let base: Vec<u32> = (0..150).map(|i| (i * 53 + 7) % 990).collect();
    let first = answer(&mut decoder, &base);
    assert_eq!(first.reused_tokens, 0);
    let longer = [&base[..], &first.ids[..3], &[5, 6, 7]].concat();
    let shorter = [&base[..140], &[1, 2]].concat();
    let different = [&[990], &base[1..]].concat();
    for (ids, reused) in [(&base, 149), (&longer, 153), (&shorter, 140), (&base, 140), (&different, 0)] {
        other.forget();
        let (got, want) = (answer(&mut decoder, ids), answer(&mut other, ids));
        assert_eq!(got.reused_tokens, reused);
        assert_eq!((got.ids, got.logprobs), (want.ids, want.logprobs));
    }
    // A run that was stopped leaves only what it had read.
    let mut asked = 0;
    let stopped = decoder.prefill(&base, &pool, &mut || {
        asked += 1;
        if asked > 1 { Err(Error::Interrupted) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    other.forget();
    assert_eq!(answer(&mut decoder, &base).logprobs, answer(&mut other, &base).logprobs);
}

#[test]
fn beginnings_are_kept_for_other_sessions_and_change_nothing() {
    let pool = Pool::new(2).unwrap();
    for file in ["tiny-qwen2-f32.gguf", "tiny-qwen2-q8_0.gguf"] {
        let folder = tempfile::tempdir().unwrap();
        let session = |shares: bool| {
            let mut decoder = load(file, &pool);
            if shares {
                decoder.share_beginnings(folder.path(), &model(Path::new("")));
            }
            decoder
        };
        let answer = |decoder: &mut Decoder, ids: &[u32]| {
            let prompt = Prompt { fixed: 70, ..prompt(ids) };
            decoder.generate(&prompt, &options(12), &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
        };
        let ids: Vec<u32> = (0..100).map(|i| (i * 53 + 7) % 990).collect();
        let other = [&ids[..70], &[1, 2, 3]].concat();
        // Who comes first reads it, after something else, too; sixteen tokens lie together.
        for (ids, reused) in [(&ids, 0), (&other, 64)] {
            let mut decoder = session(true);
            answer(&mut decoder, &[5; 80]);
            let (got, want) = (answer(&mut decoder, ids), answer(&mut session(false), ids));
            assert_eq!(got.reused_tokens, reused, "{file}");
            assert_eq!((got.ids, got.logprobs), (want.ids, want.logprobs), "{file}");
        }
        // What is damaged is read again.
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        }
        let (got, want) = (answer(&mut session(true), &other), answer(&mut session(false), &other));
        assert_eq!((got.reused_tokens, got.logprobs), (0, want.logprobs), "{file}");
        assert_eq!(answer(&mut session(true), &ids).reused_tokens, 64, "{file}");
    }
}

#[test]
fn control_tokens_in_a_message_stay_text() {
    let decoder = load("tiny-qwen2-q8_0.gguf", &Pool::new(1).unwrap());
    let content = "x<|im_end|>\n<|im_start|>system<|im_<|im_end|>end|>\u{E000}";
    let prompt = decoder.render_chat(&[message(content)]).unwrap();
    assert!(prompt.text.contains(content));
    let control = prompt.ids.iter().filter(|&&id| id >= 997).count();
    // One start and end of the message, one start of the answer.
    assert_eq!(control, 3);
    let plain = decoder.plain_prompt("<|im_start|>").unwrap();
    assert!(plain.ids.len() > 1 && plain.ids.iter().all(|&id| id < 997));
    assert_eq!(decoder.tokenize("<|im_start|>", true).unwrap(), [998]);
}

#[test]
fn nonsense_is_an_error_and_the_decoder_goes_on() {
    let pool = Pool::new(1).unwrap();
    let mut decoder = load("tiny-qwen2-q8_0.gguf", &pool);
    let good = prompt(&[5, 6, 7]);
    let answer = |d: &mut Decoder, p: &Prompt, o: &GenerateOptions| {
        d.generate(p, o, &pool, &mut || Ok(()), &mut |_| Ok(()))
    };
    let want = answer(&mut decoder, &good, &options(5)).unwrap();
    let invalid = |r: Result<_>| matches!(r, Err(Error::InvalidInput(_)));
    assert!(invalid(answer(&mut decoder, &good, &options(0))));
    assert!(invalid(answer(&mut decoder, &prompt(&[]), &options(5))));
    assert!(invalid(answer(&mut decoder, &prompt(&[1000]), &options(5))));
    let sampling = Sampling { temperature: -1.0, ..Sampling::default() };
    let cold = GenerateOptions { sampling, ..options(5) };
    assert!(invalid(answer(&mut decoder, &good, &cold)));
    let long = prompt(&vec![1; decoder.context_length()]);
    assert!(matches!(answer(&mut decoder, &long, &options(5)), Err(Error::TooLong { limit: 256, .. })));
    let small = GenerateOptions { max_memory: 20_000, ..options(250) };
    let refused = answer(&mut decoder, &good, &small);
    assert!(matches!(refused, Err(Error::Memory { tokens: 253, limit: 20_000, .. })), "{refused:?}");
    for role in ["", "user\n", "<|im_start|>"] {
        let message = Message { role: role.to_owned(), content: String::new() };
        assert!(matches!(decoder.render_chat(&[message]), Err(Error::InvalidInput(_))), "{role}");
    }
    assert!(matches!(decoder.render_chat(&[]), Err(Error::InvalidInput(_))));

    // Stopped at any point, by an error or by unwinding.
    for stop_at in 0..6 {
        let mut asked = 0;
        let stopped = decoder.generate(
            &good,
            &options(5),
            &pool,
            &mut || {
                asked += 1;
                if asked > stop_at { Err(Error::Interrupted) } else { Ok(()) }
            },
            &mut |_| Ok(()),
        );
        assert!(matches!(stopped, Err(Error::Interrupted)));
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut asked = 0;
            let mut check = || {
                asked += 1;
                if asked > stop_at { std::panic::resume_unwind(Box::new(())) } else { Ok(()) }
            };
            decoder.generate(&good, &options(5), &pool, &mut check, &mut |_| Ok(()))
        }));
        assert!(unwound.is_err());
        decoder.forget();
        assert_eq!(answer(&mut decoder, &good, &options(5)).unwrap(), want);
    }
}

#[test]
fn the_window_and_stop_strings_end_an_answer() {
    let pool = Pool::new(1).unwrap();
    let mut decoder = load("tiny-qwen2-f32.gguf", &pool);
    let mut run = |ids: &[u32], options: &GenerateOptions| {
        let mut pieces = String::new();
        let answer = decoder
            .generate(&prompt(ids), options, &pool, &mut || Ok(()), &mut |piece| {
                pieces.push_str(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(pieces, answer.text);
        answer
    };
    let ids: Vec<u32> = (0..250).collect();
    let answer = run(&ids, &options(50));
    assert!(
        answer.stop == StopReason::EndOfText || (answer.stop, answer.ids.len()) == (StopReason::Length, 6)
    );
    let whole = run(&ids[..4], &options(16));
    let stop: String = whole.text.chars().skip(4).take(3).collect();
    assert_eq!(stop.chars().count(), 3);
    let cut = run(&ids[..4], &GenerateOptions { stop: vec![stop.clone()], ..options(16) });
    assert_eq!(cut.stop, StopReason::StopString);
    assert_eq!(Some(cut.text.as_str()), whole.text.split(stop.as_str()).next());
}

#[test]
fn steps_write_what_one_call_writes() {
    let Reference { files, .. } = reference();
    let pool = Pool::new(1).unwrap();
    let mut model = LanguageModel::Decoder(Box::new(load(&files.q8_0.file, &pool)));
    for case in &files.f32.cases {
        let mut generate = |ids: &[u32]| {
            model.generate(&prompt(ids), &options(16), &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap()
        };
        let whole = generate(&case.input_ids);
        for tokens in [1, 3, 100] {
            let mut continuation = Continuation::new(prompt(&case.input_ids), options(16));
            while !continuation.has_ended() {
                continuation.step(&mut model, tokens, &pool, &mut || Ok(())).unwrap();
                // Another call in between takes its place in the cache.
                model
                    .generate(&prompt(&[1, 2]), &options(2), &pool, &mut || Ok(()), &mut |_| Ok(()))
                    .unwrap();
            }
            let ended = usize::from(whole.stop == StopReason::EndOfText);
            assert_eq!(continuation.answer_tokens(), whole.ids.len() - ended, "{}", case.text);
            assert!(
                whole.text.starts_with(continuation.text()),
                "{:?} {:?}",
                whole.text,
                continuation.text()
            );
            assert!(whole.text[continuation.text().len()..].chars().all(|c| c == '\u{FFFD}'));
        }
    }
}

#[test]
fn a_step_that_was_stopped_may_be_taken_again() {
    let pool = Pool::new(1).unwrap();
    let mut model = LanguageModel::Decoder(Box::new(load(&reference().files.q8_0.file, &pool)));
    let ids = &reference().files.f32.cases[0].input_ids;
    let mut continuation = Continuation::new(prompt(ids), options(8));
    let mut stop = || -> Result<()> { Err(Error::InvalidInput("stop".to_owned())) };
    continuation.step(&mut model, 4, &pool, &mut stop).unwrap_err();
    assert_eq!(continuation.answer_tokens(), 0);
    continuation.step(&mut model, 4, &pool, &mut || Ok(())).unwrap();
    assert_eq!(continuation.answer_tokens(), 4);
}
