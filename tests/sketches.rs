//! Our sketches compared with Apache DataSketches on the same values: an independent program agrees with ours and is
//! not more accurate.
//!
//! It is installed from PyPI into `target/` on first use. Without python3, venv or a network the test reports it and
//! compares nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::{python, skip};
use firehose::sketch::{HyperLogLog, TDigest};

const PACKAGE: &str = "datasketches==5.2.0";

/// Reads one trial per line and answers each with one line. `count seed values`: estimates the number of distinct
/// values among this many of SplitMix64, from two merged halves. `quantiles name seed values parts`: estimates the
/// quantiles of this many values, from merged digests of one part each.
const PROGRAM: &str = r#"
import sys
import datasketches
import numpy

def mix(n):
    with numpy.errstate(over="ignore"):
        n = (n ^ (n >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        n = (n ^ (n >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return n ^ (n >> numpy.uint64(31))

def numbers(seed, count):
    with numpy.errstate(over="ignore"):
        steps = numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        return mix(numpy.uint64(seed) + steps)

def values(name, seed, count):
    units = (numbers(seed, count) >> numpy.uint64(11)) / 2.0**53
    if name == "uniform":
        return units
    if name == "cents":
        return numpy.floor(1000.0 / (1.0 - units * 0.99))
    return 1.0 / (1.0 - units * (1.0 - 1e-9))

for line in sys.stdin:
    kind, *words = line.split()
    if kind == "count":
        seed, count = map(int, words)
        union = datasketches.hll_union(14)
        for half in numpy.array_split(numbers(seed, count), 2):
            sketch = datasketches.hll_sketch(14)
            for value in half.view(numpy.int64).tolist():
                sketch.update(value)
            union.update(sketch)
        print(union.get_estimate(), flush=True)
    else:
        name, (seed, count, parts) = words[0], map(int, words[1:])
        merged = datasketches.tdigest_double(200)
        for part in numpy.array_split(values(name, seed, count), parts):
            digest = datasketches.tdigest_double(200)
            digest.update(part)
            merged.merge(digest)
        print(*(merged.get_quantile(q) for q in (0.5, 0.95, 0.99)), flush=True)
"#;

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

fn number(seed: u64, at: u64) -> u64 {
    let n = seed.wrapping_add(at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

fn value(name: &str, number: u64) -> f64 {
    let unit = (number >> 11) as f64 / (1_u64 << 53) as f64;
    match name {
        "uniform" => unit,
        "cents" => (1_000.0 / (1.0 - unit * 0.99)).floor(),
        _ => 1.0 / (1.0 - unit * (1.0 - 1e-9)),
    }
}

/// Returns one line of numbers for each question.
fn ask(python: &Path, questions: String) -> Vec<Vec<f64>> {
    let mut program = Command::new(python);
    program.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().expect("python runs");
    let mut stdin = program.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let output = program.wait_with_output().expect("its answers");
    writer.join().expect("the writer").expect("all questions are read");
    assert!(output.status.success(), "the program failed");
    let text = String::from_utf8(output.stdout).expect("text");
    let numbers = |line: &str| line.split(' ').map(|word| word.parse().expect("a number")).collect();
    text.lines().map(numbers).collect()
}

fn median(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn counts_err_no_more_than_theirs() {
    let python = match python(&[PACKAGE], "import datasketches") {
        Ok(python) => python,
        Err(reason) => return skip(&format!("no {PACKAGE} to compare with: {reason}")),
    };
    let trials: Vec<(u64, u64)> = [(1, 5), (100, 40), (3_000, 40), (10_000, 60), (50_000, 60), (200_000, 30)]
        .into_iter()
        .flat_map(|(count, trials)| (0..trials).map(move |trial| (trial * 1_000_003 + count, count)))
        .collect();
    let questions = trials.iter().map(|(seed, count)| format!("count {seed} {count}\n")).collect();
    let answers = ask(&python, questions);
    assert_eq!(answers.len(), trials.len());
    let mut errors: Vec<(u64, f64, f64)> = Vec::new();
    for ((seed, count), theirs) in trials.into_iter().zip(&answers) {
        let mut merged = HyperLogLog::new();
        for half in [1..=count / 2, count / 2 + 1..=count] {
            let mut bytes = Vec::new();
            // DataSketches hashes each value again; these values are as good as hashes.
            half.map(|at| number(seed, at)).collect::<HyperLogLog>().encode(&mut bytes);
            merged.merge_encoded(&bytes).expect("our own bytes");
        }
        let error = |estimate: f64| (estimate / count as f64 - 1.0).abs();
        let (ours, theirs) = (error(merged.estimate()), error(theirs[0]));
        let sigmas = if count > 4_096 { HyperLogLog::RELATIVE_STANDARD_ERROR } else { 0.000_3 };
        assert!(ours <= 3.5 * sigmas, "{count}: {ours}");
        // A larger error would mean that the two did not receive the same values.
        assert!(theirs <= 0.06, "{count}: theirs is off by {theirs}");
        errors.push((count, ours, theirs));
    }
    for same in errors.chunk_by(|one, next| one.0 == next.0) {
        let ours = median(same.iter().map(|(_, ours, _)| *ours).collect());
        let theirs = median(same.iter().map(|(_, _, theirs)| *theirs).collect());
        println!("{} different values: median error {ours:.6}, theirs {theirs:.6}", same[0].0);
        assert!(ours <= 1.5 * theirs + 1e-5, "{}: {ours}, theirs {theirs}", same[0].0);
    }
}

#[test]
fn quantiles_err_no_more_than_theirs() {
    let python = match python(&[PACKAGE], "import datasketches") {
        Ok(python) => python,
        Err(reason) => return skip(&format!("no {PACKAGE} to compare with: {reason}")),
    };
    let mut trials: Vec<(&str, u64, usize, usize)> = Vec::new();
    for name in ["uniform", "cents", "long_tail"] {
        for (count, parts) in [(20_000, 1), (20_000, 10), (50_000, 500)] {
            trials.extend((1..=25).map(|seed| (name, seed, count, parts)));
        }
    }
    let mut questions = String::new();
    for (name, seed, count, parts) in &trials {
        writeln!(questions, "quantiles {name} {seed} {count} {parts}").expect("a string takes all");
    }
    let answers = ask(&python, questions);
    assert_eq!(answers.len(), trials.len());
    let mut errors = Vec::new();
    for ((name, seed, count, parts), theirs) in trials.into_iter().zip(&answers) {
        let values: Vec<f64> = (1..=count as u64).map(|at| value(name, number(seed, at))).collect();
        let mut merged = TDigest::default();
        for part in values.chunks(count / parts) {
            let mut digest = TDigest::default();
            part.iter().for_each(|value| digest.insert(*value).expect("a finite value"));
            let mut bytes = Vec::new();
            digest.encode(&mut bytes);
            merged.merge_encoded(&bytes).expect("our own bytes");
        }
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let error = |q: f64, value: f64| {
            let from = sorted.partition_point(|known| *known < value) as f64 / count as f64;
            let to = sorted.partition_point(|known| *known <= value) as f64 / count as f64;
            (from - q).max(q - to).max(0.0)
        };
        let pairs = QUANTILES.into_iter().zip(theirs).map(|(q, theirs)| {
            let ours = error(q, merged.quantile(q).expect("there are values"));
            // Half of what one centroid may contain there.
            let bound = std::f64::consts::PI / 200.0 * (q * (1.0 - q)).sqrt();
            assert!(ours <= bound, "{name}, {count} in {parts}: {ours} at {q}");
            let theirs = error(q, *theirs);
            assert!(theirs <= 0.1, "{name}: theirs is off by {theirs} at {q}");
            (ours, theirs)
        });
        errors.push(((name, count, parts), pairs.collect::<Vec<_>>()));
    }
    for same in errors.chunk_by(|one, next| one.0 == next.0) {
        for (at, q) in QUANTILES.into_iter().enumerate() {
            let ours = median(same.iter().map(|(_, pairs)| pairs[at].0).collect());
            let theirs = median(same.iter().map(|(_, pairs)| pairs[at].1).collect());
            let (name, count, parts) = same[0].0;
            println!("{name}, {count} in {parts}, {q}: median rank error {ours:.6}, theirs {theirs:.6}");
            // Plus one rank, the possible difference between the two definitions of a quantile.
            let rank = 1.0 / count as f64;
            assert!(ours <= 1.5 * theirs + rank, "{name}, {count} in {parts}, {q}: {ours}, theirs {theirs}");
        }
    }
}
