//! Executes every ```` ```sql ```` block of README.md, then of the chapters that go on with its tables, in order, and compares
//! where a page shows the output.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Options, readme};

const PAGES: [&str; 4] = ["README.md", "docs/retrieval.md", "docs/answers.md", "docs/tasks.md"];

#[test]
fn the_pages_are_true() -> Result<()> {
    let cluster = Options::default().models().start()?;
    // The first page begins with CREATE EXTENSION itself.
    let database = cluster.create_empty_database("tour")?;
    let mut compared = 0;
    for name in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let steps = readme::steps(&page);
        ensure!(!steps.is_empty(), "{name} shows no SQL");
        for step in &steps {
            let printed = cluster
                .psql(&database, &[], &step.sql)
                .with_context(|| format!("{name}:{}\n{}", step.line, step.sql))?;
            if let Some(shown) = &step.output {
                ensure!(
                    readme::output_matches(shown, &printed),
                    "{name}:{}: the page shows\n{shown}\nbut psql prints\n{printed}",
                    step.line
                );
                compared += 1;
            }
        }
        println!("{name}: {} blocks run", steps.len());
    }
    println!("{compared} outputs compared");
    Ok(())
}
