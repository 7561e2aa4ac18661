//! Executes every ```` ```sql ```` block of README.md in order and compares where the page shows the output.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Options, readme};

#[test]
fn the_readme_is_true() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let steps = readme::steps(&page);
    ensure!(!steps.is_empty(), "README.md shows no SQL");
    let cluster = Options::default().models().start()?;
    // The page begins with CREATE EXTENSION itself.
    let database = cluster.create_empty_database("tour")?;
    let mut compared = 0;
    for step in &steps {
        let printed = cluster
            .psql(&database, &[], &step.sql)
            .with_context(|| format!("README.md:{}\n{}", step.line, step.sql))?;
        if let Some(shown) = &step.output {
            ensure!(
                readme::output_matches(shown, &printed),
                "README.md:{}: the page shows\n{shown}\nbut psql prints\n{printed}",
                step.line
            );
            compared += 1;
        }
    }
    println!("{} blocks run, {compared} outputs compared", steps.len());
    Ok(())
}
