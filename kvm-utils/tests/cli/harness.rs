//! Runs tests one by one and prints what libtest prints, so that the same eyes and programs can read it; unlike there, a
//! test can say while it runs that it cannot be done here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

/// Why a test cannot be done on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

/// A failed test panics.
pub type Outcome = Result<(), Skip>;

/// Name and body.
pub type Test = (&'static str, fn() -> Outcome);

/// Runs the tests whose names contain any of the arguments, or all.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let all = tests.len();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| if given("--exact") { name == **filter } else { name.contains(*filter) })
    };
    let tests: Vec<Test> =
        tests.into_iter().filter(|(name, _)| wanted(name) && !given("--ignored")).collect();
    if given("--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", tests.len());
    let began = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in &tests {
        let verdict = match catch_unwind(AssertUnwindSafe(test)) {
            Ok(Ok(())) => {
                passed += 1;
                "ok".to_owned()
            }
            Ok(Err(Skip(why))) => {
                ignored += 1;
                format!("ignored, {why}")
            }
            Err(_) => {
                failed += 1;
                "FAILED".to_owned()
            }
        };
        println!("test {name} ... {verdict}");
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        all - tests.len(),
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
