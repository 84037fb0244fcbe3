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

{{- /* What KEDA takes where the metric is not there, or old, is so large that it bounds nothing. */}}
{{- define "htcgrid.boundTrigger" -}}
- type: aws-cloudwatch
  name: desired
  useCachedMetrics: true
  metadata:
    namespace: HTCGrid
    metricName: DesiredAgents
    dimensionName: Grid;Partition
    dimensionValue: {{ printf "%s;%s" .Values.grid.name .Values.partition | quote }}
    metricStat: Maximum
    metricStatPeriod: "60"
    metricCollectionTime: "300"
    targetMetricValue: "1"
    minMetricValue: "1000000"
    ignoreNullValues: "true"
    {{- include "htcgrid.triggerRegion" . | nindent 4 }}
  authenticationRef:
    name: {{ .Release.Name }}
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

{{- /* Agents wanted: never more than there are chunks for, nor more than finish the work in time. */}}
{{- define "htcgrid.formula" -}}
{{- $queued := printf "(high + normal + low) / %s" (include "htcgrid.chunksPerAgent" .) }}
{{- if .Values.scaling.bound -}}
min({{ $queued }}, max(desired, {{ int .Values.scaling.reactionAgents }}.0))
{{- else -}}
{{ $queued }}
{{- end }}
{{- end }}

{{- define "htcgrid.checkAgents" -}}
{{- if gt (int .Values.scaling.minAgents) (int .Values.scaling.maxAgents) }}
{{- fail (printf "scaling.minAgents: %d are more than the %d of scaling.maxAgents." (int .Values.scaling.minAgents) (int .Values.scaling.maxAgents)) }}
{{- end }}
{{- end }}
