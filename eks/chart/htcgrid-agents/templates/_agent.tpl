{{- define "htcgrid.agent" -}}
{{- include "htcgrid.checkRegion" . -}}
name: agent
image: {{ .Values.agent.image }}
imagePullPolicy: {{ .Values.agent.imagePullPolicy }}
env:
  {{- include "htcgrid.credentials.environment" . | nindent 2 }}
  {{- include "htcgrid.agent.fromPod" . | nindent 2 }}
  {{- include "htcgrid.environment" (merge (deepCopy .Values.agent.extraEnv) (include "htcgrid.agent.settings" . | fromYaml)) | trim | nindent 2 }}
{{- with .Values.agent.envFromSecrets }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
ports:
  - name: health
    containerPort: 8080
    protocol: TCP
{{- /* Ready never means free: a busy agent is ready. */}}
startupProbe:
  httpGet: {path: /live, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
resources:
  requests:
    cpu: {{ int .Values.agent.cpu }}m
    memory: {{ int .Values.agent.memory }}Mi
  limits:
    memory: {{ int .Values.agent.memory }}Mi
securityContext:
  {{- include "htcgrid.securityContext" . | nindent 2 }}
  runAsUser: 10001
volumeMounts:
  - name: workers
    mountPath: /run/htcgrid/workers
  - name: agent-tmp
    mountPath: /tmp
  - name: data
    mountPath: {{ include "htcgrid.dataFolder" . }}
  {{- with .Values.grid.fileSystem }}
  {{- if .claim }}
  - name: payloads
    mountPath: {{ .mountPath }}
  {{- end }}
  {{- end }}
  {{- include "htcgrid.credentials.mounts" . | indent 2 }}
{{- end }}

{{- define "htcgrid.agent.fromPod" -}}
- name: HTCGRID_AGENT_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: HTCGRID_HOST
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "htcgrid.agent.settings" -}}
HTCGRID_CHUNKS_TABLE: {{ .Values.grid.chunksTable | quote }}
HTCGRID_TASK_QUEUE_URLS: {{ .Values.grid.taskQueueUrls | toJson | quote }}
HTCGRID_TASK_EVENTS_QUEUE_URL: {{ .Values.grid.taskEventsQueueUrl | quote }}
HTCGRID_DATA_BUCKET: {{ .Values.grid.dataBucket | quote }}
HTCGRID_STORE: {{ .Values.grid.store }}
HTCGRID_STORE_SETTINGS: {{ .Values.grid.storeSettings | toJson | quote }}
{{- with .Values.grid.formerStores }}
HTCGRID_FORMER_STORES: {{ toJson . | quote }}
{{- end }}
{{- with .Values.grid.partitionsTable }}
HTCGRID_PARTITIONS_TABLE: {{ . | quote }}
{{- end }}
HTCGRID_PARTITION: {{ .Values.partition | quote }}
HTCGRID_DATA_DIR: {{ include "htcgrid.dataFolder" . }}
HTCGRID_DATA_MB: {{ int .Values.sharedData.megabytes | quote }}
HTCGRID_WORKER_DIR: /run/htcgrid/workers
HTCGRID_RUNTIME_PORT: "9001"
HTCGRID_WORKERS: {{ int .Values.worker.count | quote }}
HTCGRID_RUNTIME: {{ .Values.function.runtime }}
HTCGRID_FUNCTION_NAME: {{ .Values.function.name | quote }}
HTCGRID_FUNCTION_MEMORY_MB: {{ include "htcgrid.functionMemory" . | quote }}
HTCGRID_LEASE_SECONDS: {{ int .Values.agent.leaseSeconds | quote }}
HTCGRID_GRACE_SECONDS: {{ int .Values.longestTaskSeconds | quote }}
HTCGRID_WATCH_SPOT: {{ .Values.agent.watchSpot | quote }}
HTCGRID_HEALTH_HOST: {{ ternary "0.0.0.0" "::" (eq .Values.ipFamily "IPv4") | quote }}
HTCGRID_HEALTH_PORT: "8080"
HTCGRID_LOG_LEVEL: {{ .Values.agent.logLevel }}
{{- if eq .Values.mode "job" }}
HTCGRID_IDLE_SECONDS: {{ int .Values.scaling.idleSeconds | quote }}
{{- end }}
{{- end }}
