//! Services and backends as lists.
