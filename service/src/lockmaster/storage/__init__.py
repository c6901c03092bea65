"""Everything a member keeps on disk: FORMAT, guard file, journal, RocksDB state and snapshots. See FORMAT.md."""
