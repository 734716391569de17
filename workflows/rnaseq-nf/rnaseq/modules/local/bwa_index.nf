process BWA_INDEX {
    tag "$transcripts"
    label 'process_single'
    container params.container

    input:
    path transcripts

    output:
    path 'index', emit: index

    script:
    """
    mkdir index
    bwa index -p index/transcripts ${transcripts}
    """
}
