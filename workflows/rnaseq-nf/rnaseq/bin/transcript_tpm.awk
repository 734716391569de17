#!/usr/bin/awk -f
# `samtools idxstats` → transcript, bases, fragments, TPM; one mate of each pair was counted. `fragment` is
# the usual length of a fragment: at the last bases of a transcript none begins.
$1 != "*" {
    order[++n] = $1
    bases[$1] = $2
    fragments[$1] = $3
    begins[$1] = $2 > fragment ? $2 - fragment + 1 : 1
    sum += $3 / begins[$1]
}
END {
    print "transcript\tbases\tfragments\ttpm"
    for (i = 1; i <= n; i++) {
        name = order[i]
        printf "%s\t%d\t%d\t%.3f\n", name, bases[name], fragments[name],
            sum ? fragments[name] / begins[name] / sum * 1000000 : 0
    }
}
