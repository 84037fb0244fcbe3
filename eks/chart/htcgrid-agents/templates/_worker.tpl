{{- /* A native sidecar: it starts before the agent and goes after it, so a task can end while the agent stops. */}}
{{- define "htcgrid.worker" -}}
name: worker
image: {{ .Values.worker.image }}
imagePullPolicy: {{ .Values.worker.imagePullPolicy }}
restartPolicy: Always
{{- if .Values.worker.command }}
command: [/bin/sh, /run/htcgrid/entrypoint/worker_entrypoint.sh]
{{- end }}
{{- with concat .Values.worker.command (compact (list .Values.function.handler)) }}
args: {{ toJson . }}
{{- end }}
env:
  {{- include "htcgrid.environment" (merge (deepCopy .Values.function.environment) (include "htcgrid.worker.environment" . | fromYaml)) | trim | nindent 2 }}
resources:
  requests:
    cpu: {{ int .Values.worker.minCPU }}m
    memory: {{ int .Values.worker.minMemory }}Mi
    {{- with .Values.worker.extraResources }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  limits:
    {{- with include "htcgrid.workerCPU" . }}
    cpu: {{ . }}m
    {{- end }}
    memory: {{ include "htcgrid.workerMemory" . }}Mi
    {{- with .Values.worker.extraResources }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
securityContext:
  {{- include "htcgrid.securityContext" . | nindent 2 }}
  runAsUser: {{ int .Values.worker.runAsUser }}
volumeMounts:
  - name: workers
    mountPath: /run/htcgrid/workers
  - name: worker-tmp
    mountPath: /tmp
  - name: data
    mountPath: {{ include "htcgrid.dataFolder" . }}
    readOnly: true
  {{- if .Values.function.location }}
  - name: function
    mountPath: /var/task
    readOnly: true
  {{- end }}
  {{- if .Values.worker.command }}
  - name: entrypoint
    mountPath: /run/htcgrid/entrypoint
    readOnly: true
  {{- end }}
{{- end }}

{{- define "htcgrid.worker.environment" -}}
HTCGRID_WORKERS: {{ int .Values.worker.count | quote }}
HTCGRID_WORKER_DIR: /run/htcgrid/workers
HTCGRID_RUNTIME_PORT: "9001"
AWS_REGION: {{ .Values.region }}
AWS_DEFAULT_REGION: {{ .Values.region }}
AWS_LAMBDA_FUNCTION_NAME: {{ .Values.function.name | quote }}
AWS_LAMBDA_FUNCTION_MEMORY_SIZE: {{ include "htcgrid.functionMemory" . | quote }}
{{- with .Values.function.handler }}
_HANDLER: {{ . | quote }}
{{- end }}
{{- end }}
