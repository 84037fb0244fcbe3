{{- /* One trigger for each task queue. Messages in flight count: they are the work of agents that are busy. */}}
{{- define "htcgrid.queueTriggers" -}}
{{- range $priority := list "high" "normal" "low" }}
- type: aws-sqs-queue
  name: {{ $priority }}
  {{- if eq $.Values.mode "deployment" }}
  useCachedMetrics: true
  {{- end }}
  metadata:
    queueURL: {{ index $.Values.grid.taskQueueUrls $priority | quote }}
    queueLength: {{ include "htcgrid.chunksPerAgent" $ | quote }}
    scaleOnInFlight: "true"
    {{- include "htcgrid.triggerRegion" $ | nindent 4 }}
  authenticationRef:
    name: {{ $.Release.Name }}
{{- end }}
{{- end }}

{{- /* What the grid's scaling function publishes of the work. A metric that is not there, or old, is 0. */}}
{{- define "htcgrid.metricTriggers" -}}
{{- range $name, $metric := dict "desired" "DesiredAgents" "share" "AgentsPerMillionChunks" }}
- type: aws-cloudwatch
  name: {{ $name }}
  useCachedMetrics: true
  metadata:
    namespace: HTCGrid
    metricName: {{ $metric }}
    dimensionName: Grid;Partition
    dimensionValue: {{ printf "%s;%s" $.Values.grid.name $.Values.partition | quote }}
    metricStat: Maximum
    metricStatPeriod: "60"
    metricCollectionTime: "300"
    targetMetricValue: "1"
    minMetricValue: "0"
    ignoreNullValues: "true"
    {{- include "htcgrid.triggerRegion" $ | nindent 4 }}
  authenticationRef:
    name: {{ $.Release.Name }}
{{- end }}
{{- end }}

{{- define "htcgrid.triggerRegion" -}}
awsRegion: {{ .Values.region }}
{{- with .Values.grid.endpointUrl }}
awsEndpoint: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "htcgrid.chunksPerAgent" -}}
{{- .Values.scaling.chunksPerAgent | default .Values.worker.count | int }}
{{- end }}

{{- /* Agents wanted, by what docs/scaling.md says. */}}
{{- define "htcgrid.formula" -}}
{{- $chunks := "(high + normal + low)" }}
{{- $byLength := printf "%s / %s" $chunks (include "htcgrid.chunksPerAgent" .) }}
{{- if .Values.scaling.bound -}}
share > 0 ? max({{ $chunks }} * share / 1000000, min(desired, {{ $chunks }})) : {{ $byLength }}
{{- else -}}
{{ $byLength }}
{{- end }}
{{- end }}

{{- define "htcgrid.checkAgents" -}}
{{- if gt (int .Values.scaling.minAgents) (int .Values.scaling.maxAgents) }}
{{- fail (printf "scaling.minAgents: %d are more than the %d of scaling.maxAgents." (int .Values.scaling.minAgents) (int .Values.scaling.maxAgents)) }}
{{- end }}
{{- end }}
