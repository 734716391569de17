process MERGE_COUNTS {
    label 'process_single'
    container params.container

    input:
    path counts

    output:
    path 'counts.tsv', emit: counts
    path 'tpm.tsv', emit: tpm

    script:
    """
    merge_columns.awk -v column=3 ${counts} > counts.tsv
    merge_columns.awk -v column=4 ${counts} > tpm.tsv
    """
}
