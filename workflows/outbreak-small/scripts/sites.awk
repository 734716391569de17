# Where the isolates of a part differ: POSITION, then NAME=BASE for each.
{ name[NR] = $1; first = $2; bases[NR] = $3 }
END {
    for (place = 1; place <= length(bases[1]); place++) {
        line = first + place - 1; differs = 0
        for (i = 1; i <= NR; i++) {
            base = substr(bases[i], place, 1)
            if (base != substr(bases[1], place, 1)) differs = 1
            line = line "\t" name[i] "=" base
        }
        if (differs) print line
    }
}
