// The first process of every pod.
module lockmaster.dev/bed/pause

go 1.26.0
