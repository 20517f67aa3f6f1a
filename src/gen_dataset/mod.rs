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
mod text;
mod truth;
mod world;
mod zipf;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::csv_files::CsvFiles;
use self::folder::{Draft, Folder, TRUTH};
use self::generate::CountedSink;
use self::load::Loader;
use self::ndjson_files::NdjsonFiles;
use self::progress::{Figure, Progress};
use self::sql_file::SqlFile;
use self::truth::{Rows, Truth};
use crate::ops::output::{EXIT_FAILED, EXIT_USAGE, say};

pub use currency::Currency;
pub use error::GenError;
pub use generate::{Table, feed};
pub use orders::Orders;
pub use post::{Posted, Poster, Target};
pub use row::{Customer, Id, Item, Order, PriceSample, Product, Sink, StockChange, StockEvent};
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

    /// Replaces the dataset in DIR.
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Stores orders, price samples and stock events directly in this data folder, which no server may be serving. It
    /// is created if it does not exist.
    #[arg(long, value_name = "DATA")]
    pub load: Option<PathBuf>,

    /// The number of shards if the data folder is new.
    #[arg(long, value_name = "N", requires = "load", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: u16,

    /// Sends the orders to the server at this address (http://host:port).
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

    /// Compresses the request bodies.
    #[arg(long, requires = "post")]
    pub gzip: bool,
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
    // These checks precede any work, so that an invalid address or an occupied folder is reported at once.
    let poster = args.post.as_ref().map(|url| {
        let target =
            Target { url: url.clone(), key: args.key.clone(), chunk_rows: args.chunk, gzip: args.gzip };
        Poster::new(target, &spec)
    });
    let poster = poster.transpose()?;
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
        post_orders(&world, poster)?;
    }
    Ok(())
}

fn write_files(world: &World, folder: &Folder, path: &Path, format: Format) -> Result<(), GenError> {
    let mut truth = Truth::new(world);
    let (figures, mut drafts) = match format {
        Format::Ndjson => {
            let mut files = NdjsonFiles::new(folder)?;
            (write_tables(world, &mut files, &mut truth)?, files.into_drafts())
        }
        Format::Csv => {
            let mut files = CsvFiles::new(folder)?;
            (write_tables(world, &mut files, &mut truth)?, files.into_drafts()?)
        }
        Format::Sql => {
            let mut file = SqlFile::new(folder)?;
            (write_tables(world, &mut file, &mut truth)?, file.into_drafts())
        }
    };
    drafts.push(write_truth(world, folder, &mut truth, &figures)?);
    folder.keep(drafts)?;
    let items = truth.items;
    say(&format!(
        "{}{items} items in the orders; dataset in {}\n",
        progress::table(&figures),
        path.display()
    ));
    Ok(())
}

fn write_tables(world: &World, sink: &mut dyn Sink, truth: &mut Truth) -> Result<Vec<Figure>, GenError> {
    let mut witnessed = CountedSink { sink, truth };
    let figures = Table::ALL.into_iter().map(|table| watch(world, table, &mut witnessed)).collect();
    truth.finish();
    figures
}

/// Feeds one table to the sink and shows the progress.
fn watch(world: &World, table: Table, sink: &mut dyn Sink) -> Result<Figure, GenError> {
    let before = sink.bytes();
    let mut progress = Progress::new(table.name(), table.rows(world.spec()));
    feed(world, table, sink, &mut || progress.row())?;
    Ok(progress.finish(sink.bytes() - before))
}

fn write_truth(
    world: &World,
    folder: &Folder,
    truth: &mut Truth,
    figures: &[Figure],
) -> Result<Draft, GenError> {
    let rows = |table: Table| {
        figures.iter().find(|figure| figure.table == table.name()).map_or(0, |figure| figure.rows)
    };
    let rows = Rows {
        customers: rows(Table::Customers),
        products: rows(Table::Products),
        orders: rows(Table::Orders),
        order_items: truth.items,
        price_samples: rows(Table::PriceSamples),
        stock_events: rows(Table::StockEvents),
    };
    let mut draft = folder.file(TRUTH)?;
    truth::write(truth, world, rows, draft.buffer());
    Ok(draft)
}

fn load_folder(world: &World, mut loader: Loader) -> Result<(), GenError> {
    let tables = [Table::Orders, Table::PriceSamples, Table::StockEvents];
    let figures =
        tables.into_iter().map(|table| watch(world, table, &mut loader)).collect::<Result<Vec<_>, _>>()?;
    loader.finish()?;
    let load::Loaded { inserted, duplicate } = loader.loaded;
    say(&format!("{}{inserted} rows loaded, {duplicate} already existed\n", progress::table(&figures)));
    Ok(())
}

fn post_orders(world: &World, mut poster: Poster) -> Result<(), GenError> {
    let outcome = watch(world, Table::Orders, &mut poster);
    // The sums are also reported after an interruption, because the server has stored rows by then.
    let Posted { chunks, rows_sent, rows_inserted, rows_duplicate, rows_failed, retries, first_error } =
        poster.posted().clone();
    if let Ok(figure) = &outcome {
        say(&progress::table(&[Figure { table: "posted", ..*figure }]));
    }
    say(&format!(
        "{chunks} chunks, {retries} retries: {rows_sent} orders sent, {rows_inserted} inserted, \
         {rows_duplicate} duplicates, {rows_failed} failed\n"
    ));
    outcome?;
    match first_error {
        Some(first) => Err(GenError::RowsFailed { failed: rows_failed, sent: rows_sent, first }),
        None => Ok(()),
    }
}
