version 1.1

## Reads of one sample from one lane of a sequencing machine; without `reads_2`, single reads.
struct ReadGroup {
    String id
    File reads_1
    File? reads_2
}

struct Sample {
    String name
    Array[ReadGroup]+ read_groups
}

## A genome with what the programs need beside it.
struct Reference {
    File fasta
    File fai
    Array[File] bwa
}
