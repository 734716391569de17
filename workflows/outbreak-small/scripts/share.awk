# A rank's share of the sites: RANK, number of its sites, sum of their positions.
NR % ranks == rank { count++; sum += $1 }
END { print rank "\t" count + 0 "\t" sum + 0 }
