#!/usr/bin/awk -f
# One column of several tables of the same rows, side by side; each named by its file.
FNR == 1 {
    name = FILENAME
    sub(/.*\//, "", name)
    sub(/\..*/, "", name)
    head = head "\t" name
    next
}
NR == FNR { order[++n] = $1 }
{ cells[$1] = cells[$1] "\t" $column }
END {
    print "transcript" head
    for (i = 1; i <= n; i++) print order[i] cells[order[i]]
}
