"""Postgres as the sink: schema, batch writer, progress and definitions.

outcomes     what an error of Postgres calls for
database     connections that wait while Postgres is away
migration    numbered SQL files -> schema
batch        what one cycle writes
partitions   months of the time-partitioned tables
writer       one batch, one transaction
progress     who owns a partition, and how far it is
definitions  types of attributes, told of changes
quarantine   what was refused, for those who redrive it
queries      what people and tests ask
"""
