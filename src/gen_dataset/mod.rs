//! `firehose gen-dataset`: commerce datasets for tests and benchmarks. The same seed gives the same bytes.
//!
//! In: parameters, including the seed. Out: files (NDJSON, CSV or SQL) with `truth.json`, the totals that a correct
//! system must report for them; or requests to a server; or rows in a data folder. Owns: the content of the data, bit
//! by bit, with its own implementation of random numbers and logarithms. Never: holds more than one order in memory,
//! except for the chunks that are posted or loaded; uses a source of randomness other than the seed.
//!
//! [`World`] contains the fixed data, [`Orders`] is the stream of orders, and a [`Sink`] accepts rows. [`feed`]
//! connects them. `season` defines the times, `zipf` the popularity, and `truth` the expected totals.

mod catalogue;
mod csv_files;
mod currency;
mod error;
mod estimate;
mod folder;
mod generate;
mod load;
mod ndjson_files;
mod orders;
mod people;
mod post;
mod powers;
mod progress;
mod random;
mod row;
mod samples;
mod season;
mod spec;
mod sql_file;
mod tally;
mod tenants;
mod text;
mod truth;
mod units;
mod world;
mod zipf;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::csv_files::CsvFiles;
use self::estimate::{Estimate, Form};
use self::folder::{Draft, Folder, TRUTH};
use self::generate::CountedSink;
use self::load::Loader;
use self::ndjson_files::NdjsonFiles;
use self::post::Settled;
use self::progress::{Figure, Progress};
use self::sql_file::SqlFile;
use self::truth::RowCounts;
use crate::base::clock;
use crate::ops::output::{EXIT_FAILED, EXIT_USAGE, say};

pub use currency::Currency;
pub use error::GenError;
pub use generate::{Table, feed};
pub use orders::Orders;
pub use post::{Posted, Poster, Target};
pub use row::{Customer, Id, Item, Order, PriceSample, Product, Sink, StockChange, StockEvent, Tenant};
pub use spec::{Preset, Spec, SpecArgs};
pub use world::World;

/// The command's flags.
#[derive(Clone, Debug, Args)]
pub struct GenArgs {
    #[command(flatten)]
    pub spec: SpecArgs,

    /// The file format.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,

    /// The output folder. It is created if it does not exist.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["post", "load"])]
    pub out: Option<PathBuf>,

    /// Replaces the dataset in DIR, and continues where less disk space is free than the dataset is expected to need.
    #[arg(long)]
    pub force: bool,

    /// Stores orders, price history and stock events directly in this data folder, which no server may be serving. It
    /// is created if it does not exist. The command ends when every index is built.
    #[arg(long, value_name = "DATA")]
    pub load: Option<PathBuf>,

    /// The number of shards if the data folder is new.
    #[arg(long, value_name = "N", requires = "load", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: u16,

    /// Sends orders, price history and stock events to the server at this address (http://host:port). The command
    /// ends when the server has stored everything and built every index.
    #[arg(long, value_name = "URL")]
    pub post: Option<String>,

    /// The server's key, if it requires one.
    #[arg(long, value_name = "KEY", requires = "post")]
    pub key: Option<String>,

    /// The number of orders per request.
    #[arg(
        long, value_name = "ROWS", default_value_t = 50_000, requires = "post",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub chunk: u32,

    /// Compresses the requests with orders.
    #[arg(long, requires = "post")]
    pub gzip: bool,

    /// The number of connections that send the price history, one price per request.
    #[arg(
        long, value_name = "N", default_value_t = 16, requires = "post",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub connections: u16,
}

/// A dataset's file format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// One JSON object per line. An order contains its items.
    Ndjson,
    /// RFC 4180 with a header line. Order items have their own file.
    Csv,
    /// One script for sqlite3 with tables and rows. Amounts are in minor units.
    Sql,
}

/// Generates the dataset and reports the figures.
#[must_use]
pub fn gen_dataset(args: &GenArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firehose: {error}");
            ExitCode::from(if matches!(error, GenError::Parameters(_)) { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

fn run(args: &GenArgs) -> Result<(), GenError> {
    let spec = args.spec.check()?;
    // These checks precede any work, so that an invalid address, a full disk or an occupied folder is reported at once.
    let poster = args.post.as_ref().map(|url| {
        let target = Target {
            url: url.clone(),
            key: args.key.clone(),
            chunk_rows: args.chunk,
            gzip: args.gzip,
            connections: args.connections,
        };
        Poster::new(target, &spec)
    });
    let poster = poster.transpose()?;
    announce(args, &spec, poster.as_ref())?;
    let loader = args.load.as_ref().map(|path| Loader::open(path, args.shards)).transpose()?;
    let folder = args.out.as_ref().map(|path| Folder::prepare(path, args.force)).transpose()?;
    let world = World::new(spec);
    if let (Some(folder), Some(path)) = (&folder, &args.out) {
        write_files(&world, folder, path, args.format)?;
    }
    if let Some(loader) = loader {
        load_folder(&world, loader)?;
    }
    if let Some(poster) = poster {
        post_tables(&world, poster)?;
    }
    Ok(())
}

/// Reports what is about to be generated, and fails if a disk is too small for it.
fn announce(args: &GenArgs, spec: &Spec, poster: Option<&Poster>) -> Result<(), GenError> {
    eprint!("{}", estimate::rows_text(spec));
    let mut disks = estimate::Disks::default();
    if let Some(path) = &args.out {
        let form = match args.format {
            Format::Ndjson => Form::Ndjson,
            Format::Csv => Form::Csv,
            Format::Sql => Form::Sql,
        };
        disks.add(path, Estimate::of(spec, form, 1), 0);
    }
    if let Some(path) = &args.load {
        let found = load::found(path);
        if let Some(found) = &found {
            eprintln!("{}: {found}", path.display());
        }
        let shards = found.as_ref().map_or(args.shards, |found| found.shards);
        disks.add(path, Estimate::of(spec, Form::Load, shards), found.map_or(0, |found| found.bytes));
    }
    if let Some(poster) = poster {
        let place = args.post.as_deref().unwrap_or_default();
        let server = poster.server();
        disks.add_server(place, server.disk_free_bytes, Estimate::of(spec, Form::Post, server.shards));
    }
    eprint!("{}", disks.text());
    if args.force { Ok(()) } else { disks.check() }
}

fn write_files(world: &World, folder: &Folder, path: &Path, format: Format) -> Result<(), GenError> {
    let mut counts = RowCounts::new(world.spec().tenants);
    let (figures, mut drafts) = match format {
        Format::Ndjson => {
            let mut files = NdjsonFiles::new(folder)?;
            (write_tables(world, &mut files, &mut counts)?, files.into_drafts())
        }
        Format::Csv => {
            let mut files = CsvFiles::new(folder)?;
            (write_tables(world, &mut files, &mut counts)?, files.into_drafts()?)
        }
        Format::Sql => {
            let mut file = SqlFile::new(folder)?;
            (write_tables(world, &mut file, &mut counts)?, file.into_drafts())
        }
    };
    drafts.push(write_truth(world, folder, &counts)?);
    folder.keep(drafts)?;
    let items = counts.order_items;
    say(&format!(
        "{}{items} items in the orders; dataset in {}\n",
        progress::table(&figures),
        path.display()
    ));
    Ok(())
}

fn write_tables(world: &World, sink: &mut dyn Sink, counts: &mut RowCounts) -> Result<Vec<Figure>, GenError> {
    let mut counted = CountedSink { sink, counts };
    Table::ALL.into_iter().map(|table| watch(world, table, &mut counted)).collect()
}

/// Feeds one table to the sink and shows the progress.
fn watch(world: &World, table: Table, sink: &mut dyn Sink) -> Result<Figure, GenError> {
    let before = sink.bytes();
    let mut progress = Progress::new(table.name(), table.rows(world.spec()));
    feed(world, table, sink, &mut || progress.row())?;
    Ok(progress.finish(sink.bytes() - before))
}

fn write_truth(world: &World, folder: &Folder, counts: &RowCounts) -> Result<Draft, GenError> {
    let mut draft = folder.file(TRUTH)?;
    let mut progress = Progress::new("truth", Table::Orders.rows(world.spec()));
    truth::write(counts, world, &mut draft, &mut || progress.row())?;
    progress.finish(draft.bytes());
    Ok(draft)
}

fn load_folder(world: &World, mut loader: Loader) -> Result<(), GenError> {
    let mut text = String::new();
    let mut figures = Vec::new();
    for table in Table::STORED {
        figures.push(watch(world, table, &mut loader)?);
        let load::Loaded { inserted, duplicate } = loader.loaded();
        text += &format!("{}: {inserted} rows loaded, {duplicate} already existed\n", table.name());
    }
    eprintln!("building the indexes of full partitions");
    let started_us = clock::monotonic_us();
    loader.complete()?;
    let seconds = (clock::monotonic_us() - started_us) as f64 / 1e6;
    say(&format!(
        "{}{text}every index built in {seconds:.2} s; no upkeep is left\n",
        progress::table(&figures)
    ));
    Ok(())
}

fn post_tables(world: &World, mut poster: Poster) -> Result<(), GenError> {
    let (mut figures, mut failed, mut known) = (Vec::new(), None, 0);
    for table in Table::STORED {
        let outcome = watch(world, table, &mut poster);
        let posted = poster.take_posted();
        if let Ok(figure) = &outcome {
            figures.push(*figure);
        }
        // The sums are also reported after an interruption, because the server has stored rows by then.
        let (requests, what) = match table {
            Table::PriceHistory => ("requests", "price samples"),
            Table::StockEvents => ("requests", "stock events"),
            _ => ("chunks", "orders"),
        };
        let Posted { requests: count, rows_sent: sent, rows_inserted, rows_duplicate, .. } = posted;
        say(&format!(
            "{count} {requests}, {} retries: {sent} {what} sent, {rows_inserted} inserted, {rows_duplicate} \
             duplicates, {} failed\n",
            posted.retries, posted.rows_failed
        ));
        known += rows_duplicate;
        if let Some(first) = posted.first_error {
            let error = GenError::RowsFailed { failed: posted.rows_failed, sent, what, first };
            failed.get_or_insert(error);
        }
        if let Err(ended) = outcome {
            // The rows that failed before may have the same reason, or explain it.
            if let Some(failed) = failed {
                eprintln!("firehose: {failed}");
            }
            return Err(ended);
        }
    }
    if known > 0 {
        say(&format!(
            "{known} of these rows were stored before, as by a run that was interrupted, and are kept\n"
        ));
    }
    say(&progress::table(&figures));
    eprintln!("waiting until the server has built every index");
    say(match poster.settle() {
        Settled::Quiet => "the server has stored everything, and no upkeep is left\n",
        Settled::Unknown => "the server does not report whether upkeep is left\n",
    });
    failed.map_or(Ok(()), Err)
}
