{{- /* All pools of a release, each with every key of poolDefaults, as {"pools": [...]}. */}}
{{- define "nodes.pools" -}}
{{- $pools := list }}
{{- range .Values.pools }}
{{- $pools = append $pools . }}
{{- end }}
{{- range .Values.eks_worker_groups }}
{{- $pools = append $pools (include "nodes.fromWorkerGroup" . | fromJson) }}
{{- end }}
{{- $pools = $pools | default (list (dict "name" "agents")) }}
{{- $whole := list }}
{{- $names := list }}
{{- range $pools }}
{{- $pool := deepCopy $.Values.poolDefaults }}
{{- range $key, $value := . }}
{{- $_ := set $pool $key $value }}
{{- end }}
{{- include "nodes.check" $pool }}
{{- range (include "nodes.parts" $pool | fromJson).parts }}
{{- if has .name $names }}
{{- fail (printf "pools: there would be two NodePools of the name %s; name one otherwise." .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- $whole = append $whole $pool }}
{{- end }}
{{- dict "pools" $whole | toJson }}
{{- end }}

{{- /* A pool from an entry of eks_worker_groups. The notes look at its asg sizes, which are none of Karpenter's. */}}
{{- define "nodes.fromWorkerGroup" -}}
{{- $pool := dict "name" .name "instanceTypes" .override_instance_types "asgMinSize" .asg_min_size "asgDesiredCapacity" .asg_desired_capacity }}
{{- $base := int .on_demand_base_capacity }}
{{- with .asg_max_size }}
{{- $_ := set $pool "maxNodes" . }}
{{- if ge $base (int .) }}
{{- $_ := set $pool "capacity" "on-demand" }}
{{- end }}
{{- end }}
{{- if not (hasKey $pool "capacity") }}
{{- $_ := set $pool "onDemandBase" $base }}
{{- end }}
{{- $pool | toJson }}
{{- end }}

{{- define "nodes.check" -}}
{{- if and .onDemandBase .onDemandPercent }}
{{- fail (printf "pools: %s: onDemandBase and onDemandPercent exclude each other." .name) }}
{{- end }}
{{- if and (ne .capacity "spot-first") (or .onDemandBase .onDemandPercent) }}
{{- fail (printf "pools: %s: onDemandBase and onDemandPercent need the capacity spot-first." .name) }}
{{- end }}
{{- if ge (int .onDemandBase) (int .maxNodes) }}
{{- fail (printf "pools: %s: onDemandBase must be below maxNodes; for on-demand nodes alone set capacity to on-demand." .name) }}
{{- end }}
{{- if and .onDemandPercent (lt (int .maxNodes) 2) }}
{{- fail (printf "pools: %s: onDemandPercent needs maxNodes of 2 or more." .name) }}
{{- end }}
{{- if and .instanceTypes .instanceFamilies }}
{{- fail (printf "pools: %s: instanceTypes and instanceFamilies exclude each other." .name) }}
{{- end }}
{{- if gt (int .minCpus) (int .maxCpus) }}
{{- fail (printf "pools: %s: minCpus must not be above maxCpus." .name) }}
{{- end }}
{{- end }}

{{- /*
The NodePools of one pool as {"parts": [...]}: itself, and one of on-demand nodes where it has a base or a part of those. Each has a name,
capacity types, most nodes, a weight, and the shares that agents are spread over.
*/}}
{{- define "nodes.parts" -}}
{{- $most := int .maxNodes }}
{{- if .onDemandBase }}
{{- $base := dict "name" (printf "%s-base" .name) "capacity" (list "on-demand") "most" (int .onDemandBase) "weight" (add (int .weight) 10) }}
{{- $rest := dict "name" .name "capacity" (list "spot" "on-demand") "most" (sub $most (int .onDemandBase)) "weight" (int .weight) }}
{{- dict "parts" (list $base $rest) | toJson }}
{{- else if .onDemandPercent }}
{{- $percent := int .onDemandPercent }}
{{- $few := max 1 (div (mul $most $percent) 100) }}
{{- $shares := div 100 $percent }}
{{- $spot := list }}
{{- range $number := untilStep 2 (int (add $shares 1)) 1 }}
{{- $spot = append $spot (toString $number) }}
{{- end }}
{{- $certain := dict "name" (printf "%s-on-demand" .name) "capacity" (list "on-demand") "most" $few "weight" (int .weight) "shares" (list "1") }}
{{- $rest := dict "name" .name "capacity" (list "spot" "on-demand") "most" (sub $most $few) "weight" (int .weight) "shares" $spot }}
{{- dict "parts" (list $certain $rest) | toJson }}
{{- else }}
{{- $capacity := ternary (list "spot" "on-demand") (list .capacity) (eq .capacity "spot-first") }}
{{- dict "parts" (list (dict "name" .name "capacity" $capacity "most" $most "weight" (int .weight))) | toJson }}
{{- end }}
{{- end }}

{{- define "nodes.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
