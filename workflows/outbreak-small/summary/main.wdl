version 1.1

## The sites at which the isolates of one hall differ.
workflow hall_summary {
    input {
        Array[File] tables
        String hall
        String container
    }

    call own_sites { input: tables, hall, container }

    output {
        File summary = own_sites.summary
    }

    meta {
        description: "The sites at which the isolates of one hall differ"
    }

    parameter_meta {
        tables: "Sites: position, then isolate=base for each, separated by tabs"
        hall: "Letter of the hall"
        container: "Image with awk; HealthOmics needs one in ECR"
    }
}

task own_sites {
    input {
        Array[File] tables
        String hall
        String container
    }

    command <<<
        awk -v hall=~{hall} '{
            first = ""; differs = 0
            for (i = 2; i <= NF; i++) if (substr($i, 1, 1) == hall) {
                split($i, part, "=")
                if (first == "") first = part[2]; else if (part[2] != first) differs = 1
            }
            if (differs) { count++; places = places " " $1 }
        } END { print hall ": " count + 0 " sites:" places }' ~{sep(" ", tables)} > summary.txt
    >>>

    output {
        File summary = "summary.txt"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }

    meta {
        description: "Looks through the sites of all parts"
    }

    parameter_meta {
        tables: "Sites"
        hall: "Letter of the hall"
        container: "Image with awk"
    }
}
