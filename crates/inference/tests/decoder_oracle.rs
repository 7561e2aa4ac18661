//! candle's decoder, which the kernels can be held against, on a tiny model whose logits are known.

mod tiny;

use pg_answer_inference::decoder::{Decoder, GenerateOptions};
use pg_answer_inference::{Error, Kernels, Pool};
use pg_answer_models::InstalledModel;
use tiny::{Case, Model, folder, model_of, options, prompt, reference};

fn open() -> (InstalledModel, Vec<Case>) {
    let Model { file, cases } = reference().files.f32;
    let bytes = std::fs::metadata(folder().join(&file)).unwrap().len();
    (model_of(&folder(), &file, bytes, "F32"), cases)
}

#[test]
fn candle_gives_the_reference_and_takes_drafts() {
    let (model, cases) = open();
    let pool = Pool::new(2).unwrap();
    let mut decoder = Decoder::load_for(&model, Kernels::Candle, &pool, &mut || Ok(())).unwrap();
    for case in &cases {
        let logits = decoder.prefill(&case.input_ids, &pool, &mut || Ok(())).unwrap();
        assert_eq!(logits.len(), case.last_logits.len());
        for (got, want) in logits.iter().zip(&case.last_logits) {
            assert!((got - want).abs() < 3e-4, "{got} {want}");
        }
        // Wrong drafts are taken back, true ones give several logits at once.
        for draft in [false, true] {
            let options = GenerateOptions { draft, ..options(16) };
            let prompt = prompt(&case.input_ids);
            let answer = decoder.generate(&prompt, &options, &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap();
            assert_eq!(answer.ids, case.greedy_ids);
        }
    }
    // A run that was stopped leaves only what it had read.
    let ids = &cases[0].input_ids;
    decoder.forget();
    let mut asked = 0;
    let stopped = decoder.prefill(ids, &pool, &mut || {
        asked += 1;
        if asked < 4 { Ok(()) } else { Err(Error::Interrupted) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let logits = decoder.prefill(ids, &pool, &mut || Ok(())).unwrap();
    assert!(logits.iter().zip(&cases[0].last_logits).all(|(got, want)| (got - want).abs() < 3e-4));
}
