select reason, count(*) from quarantine group by reason order by reason
