select reason, detail, raw, quarantined_at from quarantine where topic = $1 and partition = $2 and "offset" = $3
