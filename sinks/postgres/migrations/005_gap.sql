-- Records of a source topic that its retention deleted before they were read. Not part of `read`.
alter table progress add column gap bigint not null default 0;
