"""Data that a tenant's tasks share: put once, referred to by sessions, kept while they may run, and deleted.

A row comes before its object and goes after it, and each of its writes needs the last one to have been read. So at
every moment the rows of a tenant say no less than what the bucket keeps for it, and what a row says is there is there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from htcgrid_chunks.clock import Clock
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.errors import DataBusy, DataConflict, DataInUse, DataMissing, DataNotFound, QuotaExceeded
from htcgrid_controlplane.rules.quotas import Demand, check_data
from htcgrid_controlplane.rules.shared_data import UPLOAD_TIME, DataRow, whole_hour
from htcgrid_controlplane.services.links import LINK_TIME
from htcgrid_controlplane.storage.preloads import PreloadStore
from htcgrid_controlplane.storage.shared_data import SharedDataStore
from htcgrid_controlplane.storage.tenants import TenantStore
from htcgrid_dataplane import data_key
from htcgrid_dataplane.shared_objects import PART_BYTES, SharedObjects, UploadGone
from htcgrid_events import DataDeleted, DataPage, DataPlace, DataRecord, DataReference, DataState, DataUpload, PutData
from htcgrid_events.views import counted, moment

_log = logging.getLogger(__name__)

_PAGE = 100
_TRIES = 8
_MAX_NAMED = 10


@dataclass(frozen=True)
class SharedData:
    """Keeps what tenants put."""

    rows: SharedDataStore
    preloads: PreloadStore
    objects: SharedObjects
    tenants: TenantStore
    clock: Clock
    retention_days: int

    def put(self, tenant: str, sha256: str, request: PutData) -> DataPlace:
        """Where to upload data, unless it is there: then it is kept for as long as if it had been uploaded now.

        Raises:
            DataConflict: it was put with another size.
            DataBusy: it is being deleted.
            QuotaExceeded, NotAllowed: the tenant may not keep or store so much.
            StoreUnavailable: S3 did not answer.
        """
        now = self.clock()
        row = self.rows.read(tenant, sha256)
        if row is None or row.gone(now) or self._lost(row):
            row = self._announce(tenant, sha256, request, row, now)
        else:
            self.tenants.take(tenant, Demand(submissions=1), now)
            row = self._put_again(row, request)
        reference = DataReference(sha256=sha256, bytes=row.size, name=request.name, folder=request.folder)
        if row.state is DataState.THERE:
            return DataPlace(reference=reference, there=True, expires_at=row.expires_at)
        return DataPlace(reference=reference, there=False, expires_at=row.expires_at, upload=self._upload(row))

    def complete(self, tenant: str, sha256: str) -> DataRecord:
        """Let data be there whose upload is whole. Repeating it changes nothing.

        Raises:
            DataNotFound: it was not put.
            DataConflict: not all of it is uploaded.
            DataBusy: it is being deleted, or its upload is completed by another request.
            StoreUnavailable: S3 did not answer.
        """
        row = self._row(tenant, sha256)
        if row.state is DataState.THERE:
            return row.record()
        if row.state is DataState.DELETING:
            raise DataBusy(sha256)
        key = data_key(tenant, sha256)
        if row.upload:
            self._complete_parts(row, key)
        found = self.objects.stored(key)
        if found is None or found.size != row.size:
            raise DataConflict(f"The shared data {sha256} is not uploaded: PUT its {row.size} bytes to the URL first.")
        now = self.clock()
        stored_at = int(found.modified.timestamp() * 1000)

        def finish(seen: DataRow) -> DataRow | None:
            if seen.state is DataState.THERE:
                return seen
            if seen.state is DataState.DELETING or seen.created_at != row.created_at:
                return None
            there = replace(seen, state=DataState.THERE, upload="", stored_at=stored_at)
            return replace(there, expires_at=min(self._retained(now), there.kept_until))

        there = self._change(row, finish)
        kept = there and self._keep(there, self._retained(now), 0, now)
        if kept is None:
            raise DataBusy(sha256)
        return kept.record()

    def get(self, tenant: str, sha256: str) -> DataRecord:
        """Data of the tenant, with a link where it is there.

        Raises:
            DataNotFound: it was not put, or has expired.
        """
        row = self._row(tenant, sha256)
        there = row.state is DataState.THERE
        return row.record(self.objects.download_url(data_key(tenant, sha256), LINK_TIME) if there else None)

    def page(self, tenant: str, after: str | None) -> DataPage:
        """Data of the tenant. A page may be empty although others follow."""
        rows, following = self.rows.page(tenant, after, _PAGE)
        now = self.clock()
        return DataPage(data=tuple(row.record() for row in rows if row.expires_at > now), next_after=following)

    def delete(self, tenant: str, sha256: str, *, force: bool) -> DataDeleted:
        """Delete data; with `force` also if sessions refer to it that may still run. Repeating it changes nothing.

        Raises:
            DataInUse: such sessions do, and `force` is not given.
            DataBusy: it is being changed by others all the time.
            StoreUnavailable: S3 did not answer. Until the request is repeated, nothing can refer to the data.
        """
        now = self.clock()

        def mark(row: DataRow) -> DataRow:
            if row.there(now) and row.needed_until > now and not force:
                raise DataInUse(
                    f"Sessions that refer to the shared data {sha256} may run until {moment(row.needed_until)}: "
                    "wait, or force its deletion, and let tasks fail that want it."
                )
            return replace(row, state=DataState.DELETING, deleting_at=now)

        row = self.rows.read(tenant, sha256)
        marked = self._change(row, mark) if row else None
        if row is None or marked is None:
            return DataDeleted(sha256=sha256, deleted=False)
        key = data_key(tenant, sha256)
        if marked.upload:
            self.objects.abort_parts(key, marked.upload)
        self.objects.delete(key)
        self.rows.delete(marked)
        return DataDeleted(sha256=sha256, deleted=True)

    def refer(self, tenant: str, digests: frozenset[str], until: int) -> Mapping[str, DataRow]:
        """Keep data for sessions that may run until a moment (ms). Gives the rows by their digests.

        Raises:
            DataMissing: some is not there; then nothing was changed.
            DataBusy: it is being changed by others all the time.
            StoreUnavailable: S3 did not copy what would expire too soon.
        """
        if not digests:
            return {}
        now = self.clock()
        rows = {row.sha256: row for row in self.rows.read_many(tenant, digests) if row.there(now)}
        if missing := digests - rows.keys():
            raise DataMissing(missing)
        for sha256, row in rows.items():
            # What is deleted meanwhile is missing, though other data is kept for longer already.
            if self._keep(row, self._retained(max(now, until)), whole_hour(until), now) is None:
                raise DataMissing([sha256])
        return rows

    def preload(
        self, partition: str, tenant: str, references: Sequence[DataReference], rows: Mapping[str, DataRow], until: int
    ) -> None:
        """Let the agents of a partition fetch data until a moment (ms), of the sizes that its rows say. Where that
        cannot be noted, tasks wait for what they want: nothing else depends on it."""
        told = [reference.model_copy(update={"bytes": rows[reference.sha256].size}) for reference in references]
        if not told:
            return
        try:
            self.preloads.add(partition, tenant, told, whole_hour(until), self.clock())
        except StorageUnavailable as error:
            _log.warning("partition %s does not preload the data of a session: %s", partition, error)

    def _row(self, tenant: str, sha256: str) -> DataRow:
        row = self.rows.read(tenant, sha256)
        if row is None or row.gone(self.clock()):
            raise DataNotFound(sha256)
        return row

    def _retained(self, after: int) -> int:
        return whole_hour(after) + self.retention_days * 86_400_000

    def _lost(self, row: DataRow) -> bool:
        """Whether an object is gone of which the row says that it is there: whoever puts it again heals that."""
        return row.state is DataState.THERE and self.objects.stored(data_key(row.tenant, row.sha256)) is None

    def _announce(self, tenant: str, sha256: str, request: PutData, former: DataRow | None, now: int) -> DataRow:
        """Insert a row for what is to be uploaded, and only then count what the tenant keeps: whichever of two requests
        counts last counts both."""
        limits = self.tenants.read(tenant).limits
        check_data(request.bytes, request.bytes, 1, limits)
        self.tenants.take(tenant, Demand(submissions=1, stored_bytes=request.bytes), now)
        announced = DataRow(
            tenant=tenant,
            sha256=sha256,
            size=request.bytes,
            name=request.name,
            folder=request.folder,
            state=DataState.UPLOADING,
            created_at=now,
            expires_at=now + int(UPLOAD_TIME.total_seconds() * 1000),
        )
        row = self.rows.write(announced, former)
        if row is None:
            raise DataBusy(sha256)
        sizes = [each.size for each in self.rows.all(tenant) if each.expires_at > now]
        try:
            check_data(row.size, sum(sizes), len(sizes), limits)
        except QuotaExceeded:
            self.rows.delete(row)
            raise
        return row

    def _put_again(self, row: DataRow, request: PutData) -> DataRow:
        now = self.clock()

        def renew(row: DataRow) -> DataRow:
            if row.state is DataState.DELETING:
                raise DataBusy(row.sha256)
            if row.size != request.bytes:
                raise DataConflict(f"The shared data {row.sha256} was put with {row.size} bytes, not {request.bytes}.")
            return replace(row, name=request.name, folder=request.folder)

        renewed = self._change(row, renew)
        if renewed is not None and renewed.state is DataState.THERE:
            renewed = self._keep(renewed, self._retained(now), 0, now)
        if renewed is None:
            raise DataBusy(row.sha256)
        return renewed

    def _upload(self, row: DataRow) -> DataUpload:
        key = data_key(row.tenant, row.sha256)
        if row.size <= PART_BYTES:
            urls = [self.objects.put_url(key, row.size, row.sha256, LINK_TIME)]
            return DataUpload(urls=tuple(urls), part_bytes=PART_BYTES, headers=self.objects.put_headers(row.sha256))
        if not row.upload:
            row = self._begin_parts(row, key)
        urls = self.objects.part_urls(key, row.upload, row.size, LINK_TIME)
        return DataUpload(urls=tuple(urls), part_bytes=PART_BYTES, headers={})

    def _begin_parts(self, row: DataRow, key: str) -> DataRow:
        """Note an upload in the row, so that all who upload this data upload parts of one."""
        begun = self.objects.begin_parts(key)
        noted = self._change(row, lambda row: row if row.upload else replace(row, upload=begun))
        if noted is None or noted.upload != begun:
            self.objects.abort_parts(key, begun)
        if noted is None or noted.state is not DataState.UPLOADING:
            raise DataBusy(row.sha256)
        return noted

    def _complete_parts(self, row: DataRow, key: str) -> None:
        try:
            missing = self.objects.complete_parts(key, row.upload, row.size)
        except UploadGone as error:
            # Completed by a request whose answer was lost, or aborted by the bucket's lifecycle.
            if self.objects.stored(key) is not None:
                return
            self.rows.write(replace(row, upload=""), row)
            raise DataConflict(f"The upload of the shared data {row.sha256} is over: put it again.") from error
        if missing:
            named = ", ".join(map(str, missing[:_MAX_NAMED]))
            lacks = counted(len(missing), "part")
            raise DataConflict(
                f"The shared data {row.sha256} lacks {lacks}, such as {named}: PUT what is missing to its URL first."
            )

    def _keep(self, row: DataRow, expires_at: int, needed_until: int, now: int) -> DataRow | None:
        """Let a row and its object be kept for so long at least. Gives the row; none if the data is not there any
        more."""
        if row.needs_copy(expires_at, now):
            copied = self._copy(row, now)
            if copied is None:
                return None
            row = copied

        def extend(row: DataRow) -> DataRow | None:
            if not row.there(now):
                return None
            return replace(
                row,
                expires_at=max(row.expires_at, min(expires_at, row.kept_until)),
                needed_until=max(row.needed_until, needed_until),
            )

        return self._change(row, extend)

    def _copy(self, row: DataRow, now: int) -> DataRow | None:
        """Let the age of an object begin anew. Of those who want it at a time one does; a copy that fails is tried
        again a day later, and until then the row is kept for no longer than the object."""
        mine = self.rows.write(replace(row, copying_at=now), row)
        if mine is None:
            return self.rows.read(row.tenant, row.sha256)
        self.objects.refresh(data_key(row.tenant, row.sha256))
        return self._change(mine, lambda row: replace(row, stored_at=now) if row.there(now) else None)

    def _change(self, row: DataRow, change: Callable[[DataRow], DataRow | None]) -> DataRow | None:
        """Write what `change` makes of a row, as it is when it is written; nothing if that changes nothing. Gives the
        row; none if there is none any more, or `change` gives none."""
        seen: DataRow | None = row
        for _ in range(_TRIES):
            changed = change(seen) if seen else None
            if seen is None or changed is None or changed == seen:
                return changed
            written = self.rows.write(changed, seen)
            if written is not None:
                return written
            seen = self.rows.read(row.tenant, row.sha256)
        raise DataBusy(row.sha256)
