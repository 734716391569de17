# One isolate's genome: the ancestor's bases, those of its hall and its own substitutions. One line, NAME<TAB>BASES.
# Park and Miller's generator: its products stay below 2^53, so that every awk gives the same numbers.
function draw(n) { state = (state * 16807) % 2147483647; return state % n }
function mutate(count,    i, place) {
    for (i = 0; i < count; i++) { place = 1 + draw(bases); base[place] = (base[place] + 1 + draw(3)) % 4 }
}
BEGIN {
    state = seed + 1; draw(4)
    for (place = 1; place <= bases; place++) base[place] = draw(4)
    state = seed * 1000 + hall; draw(4); mutate(bases / 60)
    state = seed * 1000 + 100 + number; draw(4); mutate(bases / 120)
    printf "%s\t", name
    for (place = 1; place <= bases; place++) printf "%s", substr("ACGT", base[place] + 1, 1)
    printf "\n"
}
