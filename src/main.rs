//! The binary: parses the command line and runs the command.

use std::process::ExitCode;

use firehose::cli::{self, Cli, Command, Drill};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator requests huge pages, and each touched byte then takes 2 MiB: 63 MB in an idle server with eight
    // shards. Without them the work takes as long. If this is refused, nothing changes.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Cli::of_process().command {
        Command::Serve(flags) => cli::serve(&flags),
        Command::Config(flags) => cli::config(&flags),
        Command::Shards(args) => cli::shards(&args),
        Command::Verify { folder, aggregates, stock } => cli::verify(&folder, aggregates, stock),
        Command::Sql(args) => cli::sql(&args),
        Command::Backup { folder, dest } => cli::backup(&folder, &dest),
        Command::Reshard { folder, to } => cli::reshard(&folder, to),
        Command::Ship(args) => cli::ship(&args),
        Command::Tenant(command) => cli::tenant(&command),
        Command::Key(command) => cli::key(&command),
        Command::Drill(Drill::Lock { folder, seconds }) => cli::drill_lock(&folder, seconds),
        Command::Doctor(args) => cli::doctor(&args),
        Command::GenDataset(args) => cli::gen_dataset(&args),
    }
}
